package contenders;

import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;

/** Holds what a poll returned, pauses its partitions, polls until the next record is due, and resumes a partition whose records are out. */
public final class PlainConsumer implements ConsumerRebalanceListener {
    private static final long LONGEST_POLL_MS = 1000;

    private final KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(Task.consumerProperties());
    private final Map<TopicPartition, Queue<ConsumerRecord<byte[], byte[]>>> held = new HashMap<>();
    private final Notes notes = new Notes();

    public static void main(String[] arguments) throws InterruptedException {
        new PlainConsumer().run();
    }

    private void run() {
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(main)));
        consumer.subscribe(List.of(Task.TOPIC), this);
        try {
            while (true) {
                hold(Duration.ofMillis(untilNextDueMs()));
                deliver();
            }
        } catch (WakeupException stopped) {
            notes.flush();
        } finally {
            consumer.close();
        }
    }

    private void stop(Thread main) {
        consumer.wakeup();
        try {
            main.join();
        } catch (InterruptedException ignored) {
            Thread.currentThread().interrupt();
        }
    }

    private void hold(Duration timeout) {
        var records = consumer.poll(timeout);
        for (TopicPartition partition : records.partitions()) {
            held.computeIfAbsent(partition, ignored -> new ArrayDeque<>()).addAll(records.records(partition));
        }
        consumer.pause(records.partitions());
    }

    private void deliver() {
        long nowMs = System.currentTimeMillis();
        var partitions = held.entrySet().iterator();
        while (partitions.hasNext()) {
            var partition = partitions.next();
            var records = partition.getValue();
            while (!records.isEmpty() && dueMs(records.peek()) <= nowMs) {
                var record = records.remove();
                notes.delivered(record.partition(), record.offset());
            }
            if (records.isEmpty()) {
                consumer.resume(List.of(partition.getKey()));
                partitions.remove();
            }
        }
    }

    private long untilNextDueMs() {
        long nowMs = System.currentTimeMillis();
        long nextDueMs = nowMs + LONGEST_POLL_MS;
        for (var records : held.values()) {
            nextDueMs = Math.min(nextDueMs, dueMs(records.peek()));
        }
        return Math.max(0, nextDueMs - nowMs);
    }

    private static long dueMs(ConsumerRecord<byte[], byte[]> record) {
        return record.timestamp() + Task.DELAY_MS;
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        Notes.assigned();
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        held.keySet().removeAll(partitions);
    }
}
