package contenders;

import java.time.Duration;
import java.util.Collection;
import java.util.Map;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.springframework.beans.factory.DisposableBean;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.kafka.KafkaException.Level;
import org.springframework.kafka.annotation.EnableKafka;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.config.ConcurrentKafkaListenerContainerFactory;
import org.springframework.kafka.config.KafkaListenerEndpointRegistry;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.listener.ConsumerAwareRebalanceListener;
import org.springframework.kafka.listener.ContainerPartitionPausingBackOffManager;
import org.springframework.kafka.listener.ContainerPausingBackOffHandler;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.kafka.listener.KafkaConsumerBackoffManager;
import org.springframework.kafka.listener.ListenerContainerPauseService;
import org.springframework.scheduling.TaskScheduler;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.util.backoff.FixedBackOff;

/**
 * Spring Kafka's back-off manager, which is what delays the retry topics of {@code @RetryableTopic}: it pauses the partition of a record
 * that is not due and throws, the error handler seeks back to the record, and a scheduler resumes the partition when it is due.
 *
 * <p>With the argument {@code tuned} it looks every millisecond whether to resume, and fetches little at a time.
 */
@Configuration
@EnableKafka
public class SpringConsumer {
    private static final String LISTENER = "delayed";
    private static boolean tuned;

    public static void main(String[] arguments) {
        tuned = arguments.length > 0 && arguments[0].equals("tuned");
        new AnnotationConfigApplicationContext(SpringConsumer.class).registerShutdownHook();
    }

    @Bean
    ConcurrentKafkaListenerContainerFactory<byte[], byte[]> kafkaListenerContainerFactory() {
        Map<String, Object> properties = Task.consumerProperties();
        var factory = new ConcurrentKafkaListenerContainerFactory<byte[], byte[]>();
        var container = factory.getContainerProperties();
        if (tuned) {
            properties.put(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, 16 * 1024);
            properties.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 50);
            container.setPollTimeout(10);
            container.setPollTimeoutWhilePaused(Duration.ofMillis(1));
        }
        container.setConsumerRebalanceListener(new Assignments());
        factory.setConsumerFactory(new DefaultKafkaConsumerFactory<>(properties));
        factory.setCommonErrorHandler(errorHandler());
        return factory;
    }

    /** As the retry topics have it: a record that is not due is no failure, and is sought again. */
    private static DefaultErrorHandler errorHandler() {
        var handler = new DefaultErrorHandler(
                (record, error) -> {
                    throw new IllegalStateException("not due", error);
                },
                new FixedBackOff(0, 0));
        handler.setLogLevel(Level.DEBUG);
        return handler;
    }

    @Bean
    TaskScheduler taskScheduler() {
        return new ThreadPoolTaskScheduler();
    }

    @Bean
    KafkaConsumerBackoffManager backoffManager(KafkaListenerEndpointRegistry registry, TaskScheduler scheduler) {
        var pauses = new ListenerContainerPauseService(registry, scheduler);
        return new ContainerPartitionPausingBackOffManager(registry, new ContainerPausingBackOffHandler(pauses));
    }

    @Bean
    Listener listener(KafkaConsumerBackoffManager manager) {
        return new Listener(manager);
    }

    static class Listener implements DisposableBean {
        private final KafkaConsumerBackoffManager manager;
        private final Notes notes = new Notes();

        Listener(KafkaConsumerBackoffManager manager) {
            this.manager = manager;
        }

        @KafkaListener(id = LISTENER, idIsGroup = false, topics = "#{systemEnvironment['KAFKA_TOPICS']}")
        void take(ConsumerRecord<byte[], byte[]> record, Consumer<?, ?> consumer) {
            var partition = new TopicPartition(record.topic(), record.partition());
            long dueMs = record.timestamp() + Task.DELAY_MS;
            manager.backOffIfNecessary(manager.createContext(dueMs, LISTENER, partition, consumer));
            notes.delivered(record.partition(), record.offset());
        }

        @Override
        public void destroy() {
            notes.flush();
        }
    }

    static class Assignments implements ConsumerAwareRebalanceListener {
        @Override
        public void onPartitionsAssigned(Consumer<?, ?> consumer, Collection<TopicPartition> partitions) {
            Notes.assigned();
        }
    }
}
