import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.stereotype.Component;
import org.springframework.transaction.annotation.Transactional;
import org.springframework.util.backoff.FixedBackOff;

/** Keeps every suggestion that was raised, once each. */
@Component
public class SuggestionListener {
    private final JdbcTemplate db;
    private final ObjectMapper json = new ObjectMapper();

    public SuggestionListener(JdbcTemplate db) {
        this.db = db;
    }

    @Transactional // that it was seen, and what came of it
    @KafkaListener(topics = "maru.issues.v1", groupId = "road-team")
    public void hear(ConsumerRecord<String, byte[]> record) throws IOException {
        String type = header(record, "ce_type");
        int seen = db.update("INSERT INTO seen (source, id) VALUES (?, ?) ON CONFLICT DO NOTHING",
                header(record, "ce_source"), header(record, "ce_id"));
        if (seen == 0 || !type.startsWith("maru.issues.IssueRaised.")) {
            return; // a repeat, or a fact that this service does not need
        }
        if (!type.endsWith(".v1")) {
            throw new IllegalStateException(type + ": a version that this program cannot read");
        }
        JsonNode event = json.readTree(record.value());
        db.update("INSERT INTO suggestion (case_id, title) VALUES (?, ?)",
                event.get("case_id").asText(), event.get("data").get("title").asText());
    }

    private static String header(ConsumerRecord<?, ?> record, String name) {
        return new String(record.headers().lastHeader(name).value(), StandardCharsets.UTF_8);
    }

    @Configuration
    static class Patience {
        /** Without this Spring tries ten times, or not at all, and then skips the record. */
        @Bean
        DefaultErrorHandler waitAndTryAgain() {
            var handler = new DefaultErrorHandler(new FixedBackOff(5_000, FixedBackOff.UNLIMITED_ATTEMPTS));
            handler.setClassifications(Map.of(), true);
            handler.setRetryListeners((record, error, attempt) -> System.getLogger("suggestions")
                    .log(System.Logger.Level.ERROR, "not taken, attempt " + attempt, error));
            return handler;
        }
    }
}
