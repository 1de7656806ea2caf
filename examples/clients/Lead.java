import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.List;
import java.util.regex.Pattern;

/**
 * Leads an election and writes to a store that checks fencing tokens, with Java's standard library only (17 or newer).
 *
 * <pre>java Lead.java STORE_URL NAME [QUORATE_URL...]</pre>
 *
 * The deadline counts from before each request was sent, on the monotonic clock that System.nanoTime reads. After it, this
 * program acts as if it held nothing, whatever the network does.
 */
public class Lead {
    static final Duration TTL = Duration.ofSeconds(2);
    static final HttpClient HTTP = HttpClient.newBuilder().connectTimeout(TTL).build();

    /** The session is over: whatever it held belongs to somebody else by now. */
    static class Ended extends Exception {
        Ended(String why) {
            super(why);
        }
    }

    /** A session that a thread keeps alive, at whichever member answers. */
    static class Session {
        final List<String> urls;
        final String name;
        private long deadline;
        private boolean over;

        Session(List<String> urls, String client) throws Exception {
            this.urls = urls;
            String created = "";
            while (created.isEmpty()) {
                deadline = System.nanoTime();
                created = call("/v1/sessions", "{\"ttlMs\": %d, \"client\": \"%s\"}".formatted(TTL.toMillis(), client));
            }
            deadline += validFor(created);
            name = field(created, "session");
            Thread keeper = new Thread(this::keepAlive);
            keeper.setDaemon(true);
            keeper.start();
        }

        synchronized boolean isValid() {
            return !over && System.nanoTime() - deadline < 0;
        }

        /** Waits until it leads; the fencing token. */
        long campaign(String election) throws Exception {
            while (isValid()) {
                String body = "{\"session\": \"%s\", \"waitMs\": 1000}".formatted(name);
                String granted = call("/v1/elections/" + election + "/campaign", body);
                if (!granted.isEmpty()) {
                    return Long.parseLong(field(granted, "fencingToken"));
                }
            }
            throw new Ended("the deadline has passed");
        }

        private void keepAlive() {
            try {
                while (isValid()) {
                    long sent = System.nanoTime();
                    String alive = call("/v1/sessions/" + name + "/keepalive", "");
                    if (!alive.isEmpty()) {
                        extend(sent + validFor(alive));
                    }
                    Thread.sleep(TTL.dividedBy(5).toMillis());
                }
            } catch (Exception why) {
                end();
            }
        }

        private synchronized void extend(long until) {
            if (isValid() && until - deadline > 0) {
                deadline = until;
            }
        }

        private synchronized void end() {
            over = true;
        }

        /** Asks the members in turn; empty when none has an answer, or what is wanted is still waited for (504). */
        private String call(String path, String body) throws Exception {
            for (String url : urls) {
                var request = HttpRequest.newBuilder(URI.create(url + path)).timeout(TTL)
                    .header("Content-Type", "application/json").POST(BodyPublishers.ofString(body)).build();
                try {
                    var answer = HTTP.send(request, BodyHandlers.ofString());
                    if (answer.statusCode() == 410) {
                        throw new Ended(field(answer.body(), "detail"));
                    }
                    if (answer.statusCode() < 300) {
                        return answer.body();
                    }
                    if (answer.statusCode() < 500) {
                        throw new IllegalStateException(answer.body());
                    }
                } catch (IOException unreachable) {
                    // The next one may answer.
                }
            }
            return "";
        }
    }

    static long validFor(String json) {
        return Duration.ofMillis(Long.parseLong(field(json, "validForMs"))).toNanos();
    }

    /** A text or a number of a flat JSON object; Java's standard library reads no JSON. */
    static String field(String json, String name) {
        var found = Pattern.compile("\"" + name + "\":\\s*\"?([^\",}]*)").matcher(json);
        return found.find() ? found.group(1) : "";
    }

    static void write(String store, String name, long token) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(store)).timeout(TTL).header("Fencing-Token", Long.toString(token))
            .PUT(BodyPublishers.ofString("written by " + name)).build();
        var answer = HTTP.send(request, BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            throw new Ended(answer.body().strip());
        }
    }

    static void lead(List<String> urls, String store, String name) throws Exception {
        Session session = new Session(urls, name);
        long token = session.campaign("default/main");
        System.out.println(name + " leads with fencing token " + token);
        while (session.isValid()) {
            write(store, name, token);
            Thread.sleep(100);
        }
        throw new Ended("the deadline has passed");
    }

    public static void main(String[] arguments) throws Exception {
        List<String> all = List.of(arguments);
        if (all.size() < 2) {
            System.err.println("usage: java Lead.java STORE_URL NAME [QUORATE_URL...]");
            System.exit(2);
        }
        var urls = all.size() > 2 ? all.subList(2, all.size())
            : List.of("http://127.0.0.1:17400", "http://127.0.0.1:17401", "http://127.0.0.1:17402");
        while (true) {
            try {
                lead(urls, all.get(0), all.get(1));
            } catch (Ended | IOException why) {
                System.out.println(all.get(1) + " leads no more: " + why.getMessage());
            }
        }
    }
}
