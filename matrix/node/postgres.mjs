// postgres.js, which pipelines by itself whatever is asked at once.
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { readFileSync } from "node:fs";
import postgres from "postgres";
import * as x from "./exercise.mjs";

const { step, equal, fails } = x;
const manifest = new URL("node_modules/postgres/package.json", import.meta.url);

const options = {
  host: x.where.host,
  port: x.where.port,
  username: x.where.user,
  password: x.where.password,
  database: x.where.database,
  ssl: x.ca ? { ca: x.ca, servername: x.where.host, ALPNProtocols: ["postgresql"] } : false,
  sslnegotiation: x.direct ? "direct" : null,
  onnotice: () => {},
};

async function queries(sql) {
  step("simple query");
  equal((await sql`select 1 as a; select 2 as a`.simple()).map((rows) => rows[0].a), [1, 2]);
  step("parameters");
  for (const word of x.WORDS) {
    equal([...(await sql`select ${word}::text as a, ${[1, 2]}::int[] as b`)], [{ a: word, b: [1, 2] }]);
  }
  step("prepared statements");
  for (const number of x.numbers(20)) equal((await sql`select ${number}::int + 1 as a`)[0].a, number + 1);
}

async function transactions(sql) {
  step("commit and rollback");
  await sql`create table notes (id int primary key, body text)`;
  await sql.begin((tx) => tx`insert into notes values (1, 'kept')`);
  await fails("22012", sql.begin(async (tx) => {
    await tx`insert into notes values (2, 'lost')`;
    await tx`select 1 / ${0}::int`;
  }));
  equal([...(await sql`select id from notes`)], [{ id: 1 }]);
  step("error in a transaction");
  await sql.begin(async (tx) => {
    await fails("23505", tx.savepoint((inner) => inner`insert into notes values (1, 'twice')`));
    await tx`insert into notes values (3, 'after the savepoint')`;
  });
  equal((await sql`select count(*)::int as n from notes`)[0].n, 2);
}

async function bulk(sql) {
  const lines = function* () {
    for (let number = 10; number < 10 + x.ROWS; number++) yield `${number}\trow ${number}\n`;
  };
  step("COPY in");
  await pipeline(Readable.from(lines()), await sql`copy notes from stdin`.writable());
  step("COPY out");
  let count = 0;
  // On a connection of its own: it may leave its socket paused after the last chunk, also when it
  // speaks to Postgres directly, so that nothing else is ever read from that connection.
  const own = postgres({ ...options, max: 1 });
  for await (const chunk of await own`copy notes to stdout`.readable()) count += chunk.toString().split("\n").length - 1;
  await own.end({ timeout: 0 });
  equal(count, x.ROWS + 2);
  step("cursor");
  count = 0;
  for await (const rows of sql`select id from notes`.cursor(777)) count += rows.length;
  equal(count, x.ROWS + 2);
  step("large values");
  const large = Buffer.alloc(x.LARGE, "0123456789");
  equal(large.equals((await sql`select ${large}::bytea as a`)[0].a), true);
}

async function others(sql) {
  step("pipeline");
  const answers = await Promise.all(x.numbers(500).map((number) => sql`select ${number}::int as a`));
  equal(answers.map((rows) => rows[0].a), x.numbers(500));
  step("LISTEN and NOTIFY");
  let heard;
  const note = new Promise((done) => (heard = done));
  await sql.listen("news", heard);
  await sql.notify("news", "ä payload");
  equal(await note, "ä payload");
  step("cancel");
  const query = sql`select pg_sleep(60)`.execute();
  setTimeout(() => query.cancel(), 300);
  await fails("57014", query);
  step("many connections");
  const many = postgres({ ...options, max: x.CONNECTIONS });
  const slow = x.numbers(x.CONNECTIONS).map((number) => many`select ${number}::int as a, pg_sleep(0.1)`);
  equal((await Promise.all(slow)).map((rows) => rows[0].a), x.numbers(x.CONNECTIONS));
  await many.end();
}

async function hold(sql) {
  step("hold");
  await sql`create table counters (id int primary key, n int not null)`;
  await sql`insert into counters select i, 0 from generate_series(0, ${x.WRITERS - 1}::int) i`;
  const writers = postgres({ ...options, max: x.WRITERS });
  const told = await x.underTraffic((number) =>
    writers.begin(async (tx) => {
      await tx`select n from counters where id = ${number} for update`;
      await tx`update counters set n = n + 1 where id = ${number}`;
    }),
  );
  await writers.end();
  equal((await sql`select sum(n)::int as n from counters`)[0].n, told);
}

await x.main(async () => {
  x.say(`version ${JSON.parse(readFileSync(manifest)).version}`);
  if (x.where.password) {
    step("wrong password");
    await fails("28P01", postgres({ ...options, password: "wrong" })`select 1`);
  }
  step("connect");
  const sql = postgres({ ...options, max: 2 });
  await queries(sql);
  await transactions(sql);
  await bulk(sql);
  await others(sql);
  await hold(sql);
  await sql.end();
});
