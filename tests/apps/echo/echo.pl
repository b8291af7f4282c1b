# SPDX-License-Identifier: Apache-2.0
# The echo program (lib/echo.sh) in Perl: a process for each connection, buffered lines, and a client
# that selects on one nonblocking socket for both directions.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SHUT_WR);

my $QUESTIONS = 2000;

sub address {
	my ($kind, @rest) = split /:/, shift;
	return $kind eq 'unix' ? ($kind, join ':', @rest) : ($kind, @rest);
}

sub connected {
	my ($kind, $where, $port) = address(shift);
	my $sock = $kind eq 'unix' ? IO::Socket::UNIX->new(Peer => $where)
		: IO::Socket::INET->new(PeerAddr => $where, PeerPort => $port, Proto => 'tcp');
	return $sock || die "connect: $!\n";
}

sub serve {
	my ($kind, $where, $port) = address(shift);
	my $listener = $kind eq 'unix' ? IO::Socket::UNIX->new(Local => $where, Listen => 16)
		: IO::Socket::INET->new(LocalAddr => $where, LocalPort => $port, Listen => 16,
			ReuseAddr => 1);
	die "listen: $!\n" unless $listener;
	$SIG{TERM} = sub { exit 0 };
	$SIG{CHLD} = 'IGNORE';
	$| = 1;
	print "ready\n";
	while (my $sock = $listener->accept) {
		my $child = fork;
		die "fork: $!\n" unless defined $child;
		if ($child == 0) {
			close $listener;
			echo($sock);
			exit 0;
		}
		close $sock;
	}
}

sub echo {
	my $sock = shift;
	while (my $got = sysread $sock, my $block, 65536) {
		my $at = 0;
		while ($at < $got) {
			my $sent = syswrite $sock, $block, $got - $at, $at;
			return unless defined $sent;
			$at += $sent;
		}
	}
}

sub ask {
	my $sock = connected(shift);
	$sock->autoflush(1);
	for my $i (0 .. $QUESTIONS - 1) {
		print $sock "question $i\n";
		my $answer = <$sock>;
		die "wrong answer to question $i\n" unless defined $answer && $answer eq "question $i\n";
	}
	close $sock;
}

sub send_much {
	my ($text, $size) = @_;
	my $sock = connected($text);
	my $block = pack 'N*', map { $_ * 2654435761 % 4294967296 } 1 .. $size / 4;
	my ($at, $received) = (0, '');
	my ($readers, $writers) = (IO::Select->new($sock), IO::Select->new($sock));
	$sock->blocking(0);
	while (1) {
		my ($can_read, $can_write) = IO::Select->select($readers, $writers, undef, $ENV{APP_LIMIT_S});
		die "nothing came in time\n" unless $can_read;
		if (@$can_write) {
			my $sent = syswrite $sock, $block, 100000, $at;
			$at += $sent if defined $sent;
			if ($at >= length $block) {
				$writers->remove($sock);
				shutdown $sock, SHUT_WR;
			}
		}
		if (@$can_read) {
			my $got = sysread $sock, $received, 100000, length $received;
			next unless defined $got;
			last unless $got;
		}
	}
	die length($received), " bytes came back, or wrong ones\n" unless $received eq $block;
}

my ($role, $text, $size) = @ARGV;
if ($role eq 'server') {
	serve($text);
} else {
	ask($text);
	send_much($text, $size);
}
