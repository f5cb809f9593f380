import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs the main classes of Kafka's tools one after the other in this process: starting a process for each takes seconds.
 *
 * A line of standard input is a class, a file for its standard input or nothing, and its arguments, separated by U+0001.
 * The answer is a line with the exit code and the lengths of what it said on standard output and on standard error, those
 * two, and an end of line.
 */
public class Typist {
    /** Thrown where a tool would end the process. */
    static final class Ended extends SecurityException {
        Ended(int code) {
            super("exit " + code);
        }
    }

    /** Of the tool that runs: its exit code once it has ended, and what it had said by then. */
    static Integer code;
    static int outLength;
    static int errLength;
    static ByteArrayOutputStream out;
    static ByteArrayOutputStream err;

    static synchronized void end(int asked) {
        if (code == null) {
            System.out.flush();
            System.err.flush();
            code = asked;
            outLength = out.size();
            errLength = err.size();
        }
        throw new Ended(asked);
    }

    @SuppressWarnings("removal")
    public static void main(String[] none) throws Exception {
        BufferedReader asked = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream answers = System.out;
        System.setSecurityManager(new SecurityManager() {
            @Override
            public void checkExit(int asked) {
                end(asked);
            }

            @Override
            public void checkPermission(java.security.Permission any) {}

            @Override
            public void checkPermission(java.security.Permission any, Object context) {}
        });
        Exit.setExitProcedure((asking, message) -> end(asking));
        Exit.setHaltProcedure((asking, message) -> end(asking));
        for (String line; (line = asked.readLine()) != null; ) {
            String[] words = line.split("\u0001", -1);
            byte[] typed = words[1].isEmpty() ? new byte[0] : Files.readAllBytes(Path.of(words[1]));
            out = new ByteArrayOutputStream();
            err = new ByteArrayOutputStream();
            code = null;
            System.setIn(new ByteArrayInputStream(typed));
            System.setOut(new PrintStream(out, true));
            System.setErr(new PrintStream(err, true));
            int ended = run(words[0], Arrays.copyOfRange(words, 2, words.length));
            System.out.flush();
            System.err.flush();
            byte[] results = out.toByteArray();
            byte[] notices = err.toByteArray();
            if (code != null) {
                ended = code;
                results = Arrays.copyOf(results, outLength);
                notices = Arrays.copyOf(notices, errLength);
            }
            answers.println(ended + " " + results.length + " " + notices.length);
            answers.write(results);
            answers.write(notices);
            answers.println();
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    static int run(String name, String[] words) {
        Throwable[] thrown = new Throwable[1];
        scala.Console.withOut(System.out, () -> scala.Console.withErr(System.err, () -> {
            try {
                Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) words);
            } catch (InvocationTargetException error) {
                thrown[0] = error.getCause();
            } catch (ReflectiveOperationException error) {
                thrown[0] = error;
            }
            return null;
        }));
        if (thrown[0] == null || code != null) {
            return 0;
        }
        System.err.println("Exception in thread \"main\" " + thrown[0]);
        return 1;
    }
}
