import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.Statement;

/** What Flyway does with the JDBC driver: one connection locks, another migrates, both found by a URL alone. */
public class Migrate {
    public static void main(String[] arguments) throws Exception {
        try (Connection history = DriverManager.getConnection(arguments[0], arguments[1], "");
             Connection work = DriverManager.getConnection(arguments[0], arguments[1], "");
             Statement lock = history.createStatement();
             Statement migrate = work.createStatement()) {
            // Flyway's own, with flyway.postgresql.transactional.lock=false: an open transaction would keep the
            // index below waiting for ever.
            lock.execute("select pg_advisory_lock(77431)");
            work.setAutoCommit(false);
            migrate.execute("create table jdbc_items (id int primary key, name text)");
            migrate.execute("alter table pgbench_accounts add column jdbc_note text not null default ''");
            work.commit();
            work.setAutoCommit(true);
            migrate.execute("create index concurrently jdbc_items_name on jdbc_items (name)");
            lock.execute("select pg_advisory_unlock(77431)");
        }
    }
}
