//! Is there room for connections, ours and those that come back after a window?

use super::Check;
use super::ground::Ground;

const NAME: &str = "connections";

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    // PostgreSQL 16 reserves some for a role too.
    let sql = "select (select count(*) from pg_stat_activity \
                       where backend_type = 'client backend'), \
                      current_setting('max_connections')::int8 \
                          - current_setting('superuser_reserved_connections')::int8 \
                          - coalesce(current_setting('reserved_connections', true)::int8, 0), \
                      (select datconnlimit::int8 from pg_database \
                       where datname = current_database()), \
                      (select count(*) from pg_stat_activity \
                       where backend_type = 'client backend' and datname = current_database())";
    let row = ground.session.client.query_one(sql, &[]).await?;
    let [used, limit, own_limit, own_used] = std::array::from_fn(|at| row.get::<_, i64>(at));
    let states = "select format('%s: %s', coalesce(state, 'not seen'), count(*)) \
                  from pg_stat_activity \
                  where backend_type = 'client backend' and datname = current_database() \
                  group by state order by count(*) desc";
    let states = ground.lines(states, &[]).await?;
    let percent = i64::try_from(ground.limits.connections_percent).unwrap_or(100);
    let mut wrong = Vec::new();
    if used * 100 > percent * limit {
        wrong.push(format!(
            "{used} of {limit} connections of the server are in use, more than {percent} %"
        ));
    }
    // Negative is without limit.
    if own_limit >= 0 && own_used * 100 > percent * own_limit {
        wrong.push(format!(
            "{own_used} of {own_limit} connections of the database are in use, more than {percent} %"
        ));
    }
    let well = format!("{used} of {limit} connections are in use");
    Ok(Check::of(NAME, wrong, well)
        .hint("close connections that are not needed, or raise the limit")
        .with_notes(states))
}
