# SPDX-License-Identifier: Apache-2.0
# The echo program (lib/echo.sh) in Tcl: channels and its event loop; TCP only.

set questions 2000

proc serve {address} {
	lassign [split $address :] kind host port
	socket -server echo -myaddr $host $port
	puts ready
	flush stdout
	vwait forever
}

proc echo {channel host port} {
	fconfigure $channel -blocking 0 -translation binary -buffering none
	fileevent $channel readable [list echo_some $channel]
}

proc echo_some {channel} {
	puts -nonewline $channel [read $channel]
	if {[eof $channel]} {
		fileevent $channel readable {}
		fconfigure $channel -blocking 1
		close $channel
	}
}

proc connected {address} {
	lassign [split $address :] kind host port
	socket $host $port
}

proc ask {address} {
	global questions
	set channel [connected $address]
	fconfigure $channel -buffering line -translation lf
	for {set i 0} {$i < $questions} {incr i} {
		puts $channel "question $i"
		if {[gets $channel answer] < 0 || $answer ne "question $i"} {
			error "wrong answer to question $i"
		}
	}
	close $channel
}

proc send_much {address size} {
	global rest received done
	set random [open /dev/urandom rb]
	set block [read $random $size]
	close $random
	set channel [connected $address]
	fconfigure $channel -blocking 0 -translation binary -buffersize 100000
	set at 0
	set received {}
	fileevent $channel writable [list send_some $channel $block]
	fileevent $channel readable [list read_some $channel]
	set ::at 0
	vwait done
	close $channel
	if {$received ne $block} {
		error "[string length $received] of $size bytes came back, or wrong ones"
	}
}

proc send_some {channel block} {
	puts -nonewline $channel [string range $block $::at [expr {$::at + 99999}]]
	incr ::at 100000
	if {$::at >= [string length $block]} {
		fileevent $channel writable {}
		close $channel write
	}
}

proc read_some {channel} {
	append ::received [read $channel]
	if {[eof $channel]} {
		set ::done 1
	}
}

lassign $argv role address size
if {$role eq "server"} {
	serve $address
} else {
	ask $address
	send_much $address $size
}
