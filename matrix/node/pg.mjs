// node-postgres, with its copy and cursor streams.
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createRequire } from "node:module";
import pg from "pg";
import QueryStream from "pg-query-stream";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import * as x from "./exercise.mjs";

const { step, equal, fails } = x;
const version = createRequire(import.meta.url)("pg/package.json").version;

const options = {
  ...x.where,
  ssl: x.ca ? { ca: x.ca } : false,
  sslnegotiation: x.direct ? "direct" : "postgres",
  enableChannelBinding: true,
};

async function connect(more = {}) {
  const client = new pg.Client({ ...options, ...more });
  await client.connect();
  return client;
}

const value = async (client, ...query) => (await client.query({ rowMode: "array", text: query[0], values: query[1] })).rows[0][0];

async function queries(client) {
  step("simple query");
  equal((await client.query("select 1 as a; select 2 as a")).map((one) => one.rows[0].a), [1, 2]);
  step("parameters");
  for (const word of x.WORDS) {
    const answer = await client.query("select $1::text as a, $2::int[] as b", [word, [1, null]]);
    equal(answer.rows[0], { a: word, b: [1, null] });
  }
  step("prepared statements");
  for (const number of x.numbers(20)) {
    const answer = await client.query({ name: "plus", text: "select $1::int + 1 as a", values: [number] });
    equal(answer.rows[0].a, number + 1);
  }
}

async function transactions(client) {
  step("commit and rollback");
  await client.query("create table notes (id int primary key, body text)");
  for (const [number, end] of [[1, "commit"], [2, "rollback"]]) {
    await client.query("begin");
    await client.query("insert into notes values ($1, 'x')", [number]);
    await client.query(end);
  }
  equal((await client.query("select id from notes")).rows, [{ id: 1 }]);
  step("error in a transaction");
  await client.query("begin");
  await fails("22012", client.query("select 1 / $1::int", [0]));
  await fails("25P02", client.query("select 1"));
  await client.query("rollback");
}

async function bulk(client) {
  const lines = function* (more = "") {
    for (let number = 10; number < 10 + x.ROWS; number++) yield `${number}\trow ${number}\n`;
    yield more;
  };
  const copy = (source) => pipeline(Readable.from(source), client.query(copyFrom("copy notes from stdin")));
  step("COPY in with an error");
  await fails("23505", copy(lines("1\ttwice\n")));
  step("COPY in");
  await copy(lines());
  step("COPY out");
  let count = 0;
  for await (const chunk of client.query(copyTo("copy notes to stdout"))) count += chunk.toString().split("\n").length - 1;
  equal(count, x.ROWS + 1);
  step("cursor");
  count = 0;
  for await (const _ of client.query(new QueryStream("select id from notes", [], { batchSize: 777 }))) count++;
  equal(count, x.ROWS + 1);
  step("large values");
  const large = Buffer.alloc(x.LARGE, "0123456789");
  equal(large.equals(await value(client, "select $1::bytea", [large])), true);
  equal(await value(client, "select repeat('é', $1::int)", [x.LARGE]), "é".repeat(x.LARGE));
}

async function others(client) {
  step("pipeline");
  const piped = await connect({ pipeline: true });
  const answers = await Promise.all(x.numbers(500).map((number) => value(piped, "select $1::int", [number])));
  equal(answers, x.numbers(500));
  await piped.end();
  step("LISTEN and NOTIFY");
  const sender = await connect();
  const note = new Promise((done) => client.once("notification", done));
  await client.query("listen news");
  await sender.query("select pg_notify('news', 'ä payload')");
  const { channel, payload, processId } = await note;
  equal([channel, payload, processId], ["news", "ä payload", await value(sender, "select pg_backend_pid()")]);
  await sender.end();
  if (x.direct) {
    x.skip("cancel", "node-postgres sends it before the handshake of direct TLS, which fails on Postgres too");
  } else {
    step("cancel");
    const sleeper = await connect();
    const query = new pg.Query("select pg_sleep(60)");
    const ended = new Promise((done, failed) => query.once("end", done).once("error", failed));
    sleeper.query(query);
    setTimeout(() => new pg.Client(options).cancel(sleeper, query), 300);
    await fails("57014", ended);
    await sleeper.end();
  }
  step("many connections");
  const pool = new pg.Pool({ ...options, max: x.CONNECTIONS });
  const many = x.numbers(4 * x.CONNECTIONS).map((number) => value(pool, "select $1::int", [number]));
  equal(await Promise.all(many), x.numbers(4 * x.CONNECTIONS));
  await pool.end();
}

async function hold(client) {
  step("hold");
  await client.query("create table counters (id int primary key, n int not null)");
  await client.query("insert into counters select i, 0 from generate_series(0, $1::int - 1) i", [x.WRITERS]);
  const pool = new pg.Pool({ ...options, max: x.WRITERS });
  const told = await x.underTraffic(async (number) => {
    const one = await pool.connect();
    await one.query("begin");
    await one.query("select n from counters where id = $1 for update", [number]);
    await one.query("update counters set n = n + 1 where id = $1", [number]);
    await one.query("commit");
    one.release();
  });
  await pool.end();
  equal(await value(client, "select sum(n)::int from counters"), told);
}

await x.main(async () => {
  x.say(`version ${version}`);
  if (x.where.password) {
    step("wrong password");
    await fails("28P01", connect({ password: "wrong" }));
  }
  step("connect");
  const client = await connect();
  await queries(client);
  await transactions(client);
  await bulk(client);
  await others(client);
  await hold(client);
  await client.end();
});
