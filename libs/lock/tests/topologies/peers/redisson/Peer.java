import static net.bytebuddy.matcher.ElementMatchers.any;
import static net.bytebuddy.matcher.ElementMatchers.named;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.invoke.MethodHandles;
import java.net.URI;
import java.util.Arrays;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import net.bytebuddy.ByteBuddy;
import net.bytebuddy.asm.MemberSubstitution;
import net.bytebuddy.dynamic.ClassFileLocator;
import net.bytebuddy.dynamic.loading.ClassLoadingStrategy;
import net.bytebuddy.pool.TypePool;
import org.redisson.Redisson;
import org.redisson.RedissonLock;
import org.redisson.api.DeletedObjectListener;
import org.redisson.api.ExpiredObjectListener;
import org.redisson.api.RFencedLock;
import org.redisson.api.RLock;
import org.redisson.api.RedissonClient;
import org.redisson.config.Config;

/**
 * Locks with Redisson, on the server that is named: {@code Peer URL AHEAD_MS WATCHDOG_MS}.
 *
 * <p>Each line that comes in is a JSON list of plain words, what to do and with what; each line that goes out is what
 * came of it. Everything is as it is unless one says otherwise, but for the clock that its fair lock reads, which is
 * ahead by as much as is asked for, and the time for which a watched lock lasts.
 */
public final class Peer {
    private static final long LEASE_MS = 300_000;

    private static long ahead;

    private final RedissonClient redisson;
    private final ExecutorService threads = Executors.newCachedThreadPool();
    private Future<?> body;
    private volatile boolean told;
    private volatile Thread waiting;

    private Peer(URI url, long watchdog) {
        Config config = new Config();
        config.setLockWatchdogTimeout(watchdog).setPassword(url.getUserInfo().substring(1));
        config.useSingleServer()
                .setAddress("redis://" + url.getHost() + ":" + url.getPort())
                .setConnectionMinimumIdleSize(1)
                .setConnectionPoolSize(8);
        redisson = Redisson.create(config);
    }

    /** What the fair lock takes for the time of day. */
    public static long now() {
        return System.currentTimeMillis() + ahead;
    }

    private Object act(String what, String name, long number) throws Exception {
        switch (what) {
            case "fence":
                RFencedLock fenced = redisson.getFencedLock(name);
                long token = fenced.lockAndGetToken();
                fenced.unlock();
                return token;
            case "hold":
                body = threads.submit(() -> hold(redisson.getLock(name)));
                return true;
            case "told":
                return told || body.isDone();
            case "line":
                RLock fair = redisson.getFairLock(name);
                threads.submit(() -> {
                    waiting = Thread.currentThread();
                    return fair.tryLock(number, LEASE_MS, TimeUnit.MILLISECONDS);
                });
                return true;
            case "waits":
                // It asks a second time when it has subscribed, and sleeps then.
                return waiting != null
                        && Arrays.stream(waiting.getStackTrace())
                                .anyMatch(frame -> frame.getClassName().equals(Semaphore.class.getName()));
            case "try":
                return redisson.getFairLock(name).tryLock(0, LEASE_MS, TimeUnit.MILLISECONDS);
            default:
                throw new IllegalArgumentException(what);
        }
    }

    /** A body under a watched lock, which listens to all that the lock may say to it. */
    private Object hold(RLock lock) throws InterruptedException {
        lock.addListener((DeletedObjectListener) name -> told = true);
        lock.addListener((ExpiredObjectListener) name -> told = true);
        lock.lock();
        Thread.sleep(LEASE_MS);
        return null;
    }

    /** Lets the fair lock, and nothing else, read {@link #now} in place of the clock. */
    private static void setTheClock() throws Exception {
        ClassFileLocator files = ClassFileLocator.ForClassLoader.of(RedissonLock.class.getClassLoader());
        new ByteBuddy()
                .redefine(TypePool.Default.of(files).describe("org.redisson.RedissonFairLock").resolve(), files)
                .visit(MemberSubstitution.relaxed()
                        .method(named("currentTimeMillis"))
                        .replaceWith(Peer.class.getMethod("now"))
                        .on(any()))
                .make()
                .load(
                        RedissonLock.class.getClassLoader(),
                        ClassLoadingStrategy.UsingLookup.of(
                                MethodHandles.privateLookupIn(RedissonLock.class, MethodHandles.lookup())));
    }

    public static void main(String[] words) throws Exception {
        ahead = Long.parseLong(words[1]);
        if (ahead != 0) {
            setTheClock();
        }
        Peer peer = new Peer(URI.create(words[0]), Long.parseLong(words[2]));
        System.out.println("{\"ready\": true}");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] said = Arrays.stream(line.substring(1, line.length() - 1).split(","))
                    .map(word -> word.strip().replace("\"", ""))
                    .toArray(String[]::new);
            try {
                Object result = peer.act(said[0], said[1], Long.parseLong(said[2]));
                System.out.println("{\"result\": " + result + "}");
            } catch (Exception error) {
                System.out.println("{\"failed\": \"" + error.getClass().getSimpleName() + "\"}");
            }
        }
        System.exit(0);
    }
}
