// SPDX-License-Identifier: Apache-2.0
// The echo program (lib/echo.sh) in Java.  `server` is a selector with nonblocking channels, `threads`
// one with blocking sockets (TCP only); `client` uses blocking channels, or java.net.Socket for TCP.
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketAddress;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.Arrays;
import java.util.Random;

public final class Echo {
	private static final int QUESTIONS = 2000;
	private static final int LIMIT_MS = 1000 * Integer.parseInt(System.getenv("APP_LIMIT_S"));

	private static boolean isUnix(String text) {
		return text.startsWith("unix:");
	}

	private static SocketAddress address(String text) throws IOException {
		if (isUnix(text))
			return UnixDomainSocketAddress.of(text.substring(5));
		String[] parts = text.split(":");
		return new InetSocketAddress(InetAddress.getByName(parts[1]), Integer.parseInt(parts[2]));
	}

	private static void select(String text) throws IOException {
		Selector selector = Selector.open();
		ServerSocketChannel listener = isUnix(text)
			? ServerSocketChannel.open(StandardProtocolFamily.UNIX) : ServerSocketChannel.open();
		listener.bind(address(text));
		listener.configureBlocking(false);
		listener.register(selector, SelectionKey.OP_ACCEPT);
		System.out.println("ready");
		while (true) {
			selector.select();
			for (SelectionKey key : selector.selectedKeys()) {
				if (key.isAcceptable()) {
					SocketChannel channel = listener.accept();
					channel.configureBlocking(false);
					channel.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(65536));
				} else {
					echo(key);
				}
			}
			selector.selectedKeys().clear();
		}
	}

	// Reads while there is room, writes what there is, waits for whichever can go on.
	private static void echo(SelectionKey key) throws IOException {
		SocketChannel channel = (SocketChannel) key.channel();
		ByteBuffer buffer = (ByteBuffer) key.attachment();
		boolean ended = key.isReadable() && channel.read(buffer) < 0;
		buffer.flip();
		channel.write(buffer);
		buffer.compact();
		if (ended && buffer.position() == 0)
			channel.close();
		else
			key.interestOps((buffer.hasRemaining() && !ended ? SelectionKey.OP_READ : 0)
				| (buffer.position() > 0 ? SelectionKey.OP_WRITE : 0));
	}

	private static void threads(String text) throws IOException {
		ServerSocket listener = new ServerSocket();
		listener.bind(address(text));
		System.out.println("ready");
		while (true) {
			Socket socket = listener.accept();
			new Thread(() -> {
				try (socket) {
					socket.getInputStream().transferTo(socket.getOutputStream());
				} catch (IOException error) {
					System.out.println(error);
				}
			}).start();
		}
	}

	// A blocking connection, whichever class it has.  (The streams of class Channels would keep a
	// writer waiting for a reader.)
	private static final class Connection implements AutoCloseable {
		final Socket socket;
		final SocketChannel channel;

		Connection(String text) throws IOException {
			socket = isUnix(text) ? null : new Socket();
			channel = isUnix(text) ? SocketChannel.open(address(text)) : null;
			if (socket != null) {
				socket.setTcpNoDelay(true);
				socket.setSoTimeout(LIMIT_MS);
				socket.connect(address(text));
			}
		}

		void write(byte[] block) throws IOException {
			if (socket != null)
				socket.getOutputStream().write(block);
			for (ByteBuffer rest = ByteBuffer.wrap(block); socket == null && rest.hasRemaining();)
				channel.write(rest);
		}

		// How many bytes; less than 1 at the end.
		int read(byte[] block, int at) throws IOException {
			if (socket != null)
				return socket.getInputStream().read(block, at, block.length - at);
			return channel.read(ByteBuffer.wrap(block, at, block.length - at));
		}

		byte[] readExactly(int size) throws IOException {
			byte[] block = new byte[size];
			for (int at = 0, got; at < size; at += got) {
				got = read(block, at);
				if (got <= 0)
					throw new IOException("the end after " + at + " of " + size + " bytes");
			}
			return block;
		}

		void endOutput() throws IOException {
			if (socket != null)
				socket.shutdownOutput();
			else
				channel.shutdownOutput();
		}

		@Override
		public void close() throws IOException {
			if (socket != null)
				socket.close();
			else
				channel.close();
		}
	}

	private static void ask(String text) throws IOException {
		try (Connection connection = new Connection(text)) {
			for (int i = 0; i < QUESTIONS; i++) {
				byte[] question = ("question " + i + "\n").getBytes();
				connection.write(question);
				if (!Arrays.equals(connection.readExactly(question.length), question))
					throw new IOException("wrong answer to question " + i);
			}
		}
	}

	private static void sendMuch(String text, int size) throws Exception {
		byte[] block = new byte[size];
		new Random(1).nextBytes(block);
		try (Connection connection = new Connection(text)) {
			Thread sender = new Thread(() -> {
				try {
					connection.write(block);
					connection.endOutput();
				} catch (IOException error) {
					System.out.println(error);
				}
			});
			sender.start();
			byte[] received = connection.readExactly(size);
			sender.join();
			if (!Arrays.equals(received, block) || connection.read(new byte[1], 0) > 0)
				throw new IOException("wrong bytes came back");
		}
	}

	// close() while another thread is in read(): that thread gets an exception.
	private static void closeUnderRead(String text) throws Exception {
		Connection connection = new Connection(text);
		boolean[] interrupted = { false };
		for (int i = 0; i < 50; i++) {
			connection.write(new byte[] { (byte) i });
			if (connection.readExactly(1)[0] != i)
				throw new IOException("wrong byte");
		}
		Thread reader = new Thread(() -> {
			try {
				connection.read(new byte[1], 0);
			} catch (IOException expected) {
				interrupted[0] = true;
			}
		});
		reader.start();
		Thread.sleep(200);
		connection.close();
		reader.join(LIMIT_MS);
		if (reader.isAlive() || !interrupted[0])
			throw new IOException("close() did not end the read()");
	}

	public static void main(String[] arguments) throws Exception {
		switch (arguments[0]) {
		case "server" -> select(arguments[1]);
		case "threads" -> threads(arguments[1]);
		default -> {
			ask(arguments[1]);
			sendMuch(arguments[1], Integer.parseInt(arguments[2]));
			closeUnderRead(arguments[1]);
		}
		}
	}
}
