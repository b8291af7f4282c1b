// SPDX-License-Identifier: Apache-2.0
// Echo PORT: one selector, many connections; sends back what it receives.
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.Iterator;

public class Echo {
	public static void main(String[] args) throws IOException {
		Selector selector = Selector.open();
		ServerSocketChannel listener = ServerSocketChannel.open();
		listener.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 1024);
		listener.configureBlocking(false);
		listener.register(selector, SelectionKey.OP_ACCEPT);
		ByteBuffer buffer = ByteBuffer.allocateDirect(1 << 16);
		while (true) {
			selector.select();
			Iterator<SelectionKey> keys = selector.selectedKeys().iterator();
			while (keys.hasNext()) {
				SelectionKey key = keys.next();
				keys.remove();
				if (key.isAcceptable())
					accept(selector, listener);
				else
					echo((SocketChannel) key.channel(), buffer);
			}
		}
	}

	private static void accept(Selector selector, ServerSocketChannel listener) throws IOException {
		SocketChannel channel = listener.accept();
		if (channel == null)
			return;
		channel.configureBlocking(false);
		channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
		channel.register(selector, SelectionKey.OP_READ);
	}

	private static void echo(SocketChannel channel, ByteBuffer buffer) throws IOException {
		buffer.clear();
		if (channel.read(buffer) < 0) {
			channel.close();
			return;
		}
		buffer.flip();
		while (buffer.hasRemaining())
			channel.write(buffer);
	}
}
