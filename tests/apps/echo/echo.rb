# SPDX-License-Identifier: Apache-2.0
# The echo program (lib/echo.sh) in Ruby: threads, whose blocking calls Ruby guards by poll.
require 'socket'

QUESTIONS = 2000

def address(text)
  kind, rest = text.split(':', 2)
  kind == 'unix' ? [kind, rest] : [kind, *rest.split(':')]
end

def connected(text)
  kind, where, port = address(text)
  kind == 'unix' ? UNIXSocket.new(where) : TCPSocket.new(where, port.to_i)
end

def serve(text)
  kind, where, port = address(text)
  listener = kind == 'unix' ? UNIXServer.new(where) : TCPServer.new(where, port.to_i)
  trap('TERM') { exit! 0 }
  puts 'ready'
  $stdout.flush
  loop do
    Thread.new(listener.accept) do |sock|
      begin
        loop { sock.write(sock.readpartial(65_536)) }
      rescue EOFError
        sock.close
      end
    end
  end
end

def ask(text)
  sock = connected(text)
  QUESTIONS.times do |i|
    sock.puts("question #{i}")
    abort "wrong answer to question #{i}" unless sock.gets == "question #{i}\n"
  end
  sock.close
end

def send_much(text, size)
  block = Random.new(1).bytes(size)
  sock = connected(text)
  sender = Thread.new do
    sock.write(block)
    sock.close_write
  end
  received = sock.read
  sender.join
  abort "#{received.bytesize} bytes came back, or wrong ones" unless received == block
end

# Ruby's nonblocking calls, and its select.
def send_without_blocking(text)
  block = Random.new(2).bytes(3_000_000)
  sock = connected(text)
  rest, received = block, String.new
  until received.bytesize == block.bytesize
    readable, writable = IO.select([sock], rest.empty? ? [] : [sock], nil, ENV.fetch('APP_LIMIT_S').to_i)
    abort 'nothing came in time' unless readable
    unless writable.empty?
      sent = sock.write_nonblock(rest, exception: false)
      rest = rest.byteslice(sent..) if sent.is_a?(Integer)
    end
    unless readable.empty?
      part = sock.read_nonblock(65_536, exception: false)
      received << part if part.is_a?(String)
    end
  end
  sock.close
  abort 'wrong bytes came back' unless received == block
end

role, text, size = ARGV
if role == 'server'
  serve(text)
else
  ask(text)
  send_much(text, size.to_i)
  send_without_blocking(text)
end
