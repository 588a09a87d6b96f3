import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsServer;
import com.sun.net.httpserver.spi.HttpServerProvider;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;

/** Has each HTTP server of a Java listen at 127.0.0.1: Flink's Prometheus reporter listens everywhere, and can't be told. */
public class LoopbackServers extends HttpServerProvider {
    private final HttpServerProvider usual = new sun.net.httpserver.DefaultHttpServerProvider();

    public HttpServer createHttpServer(InetSocketAddress address, int backlog) throws IOException {
        return usual.createHttpServer(at127(address), backlog);
    }

    public HttpsServer createHttpsServer(InetSocketAddress address, int backlog) throws IOException {
        return usual.createHttpsServer(at127(address), backlog);
    }

    private static InetSocketAddress at127(InetSocketAddress address) throws IOException {
        return new InetSocketAddress(InetAddress.getByName("127.0.0.1"), address.getPort());
    }
}
