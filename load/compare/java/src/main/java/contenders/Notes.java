package contenders;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Instant;

/**
 * A row for each delivery on stdout, a line for each assignment on stderr; `notes.py` writes the same: partition, offset, and the
 * wall clock's microseconds, little-endian.
 */
final class Notes {
    private static final int ROW_BYTES = 20;
    private static final long FLUSH_EVERY_US = 50_000;

    private final FileOutputStream out = new FileOutputStream(FileDescriptor.out);
    private final ByteBuffer rows = ByteBuffer.allocate(1000 * ROW_BYTES).order(ByteOrder.LITTLE_ENDIAN);
    private long left = Long.parseLong(System.getenv("COMPARE_RECORDS"));
    private long flushedUs;

    static void assigned() {
        System.err.println("assigned " + System.currentTimeMillis() + " ms");
    }

    /** One record, now. */
    synchronized void delivered(int partition, long offset) {
        long nowUs = nowUs();
        rows.putInt(partition).putLong(offset).putLong(nowUs);
        left--;
        if (!rows.hasRemaining() || nowUs - flushedUs > FLUSH_EVERY_US || left <= 0) {
            flushedUs = nowUs;
            flush();
        }
    }

    synchronized void flush() {
        try {
            out.write(rows.array(), 0, rows.position());
            rows.clear();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static long nowUs() {
        Instant now = Instant.now();
        return now.getEpochSecond() * 1_000_000 + now.getNano() / 1_000;
    }
}
