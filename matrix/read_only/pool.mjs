// An application on node-postgres's pool: does what web.py does, with fewer connections than there are
// requests under way.
import pg from "pg";

const [port, database, clients, first] = process.argv.slice(2).map((word) => (/^\d+$/.test(word) ? Number(word) : word));
const pool = new pg.Pool({ host: "127.0.0.1", port, database, user: "trusted", max: clients, ssl: false });
const counts = { read: 0, write: 0, "told to retry": 0, retried: 0 };
const longest = { read: 0, write: 0 };
const errors = [];
let stopping = false;

async function transaction(statements) {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    for (const [text, values] of statements) await client.query(text, values);
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

async function timed(what, request) {
  const begun = performance.now();
  try {
    await request();
    counts[what] += 1;
    longest[what] = Math.max(longest[what], (performance.now() - begun) / 1000);
  } catch (error) {
    error.what = what;
    throw error;
  }
}

async function work(client) {
  let number = 0;
  while (!stopping && errors.length < 5) {
    const account = 1 + Math.floor(Math.random() * 1000);
    // Every other one only reads, so that somebody does while writes wait.
    const chance = Math.random() * (client % 2 ? 0.6 : 1);
    const balance = ["select balance from account where id = $1", [account]];
    const add = ["update account set balance = balance + 1 where id = $1", [account]];
    try {
      if (chance < 0.3) {
        await timed("read", () => transaction([balance, balance]));
      } else if (chance < 0.6) {
        const sum = { name: "sum", text: "select sum(balance) from account where id < $1", values: [account] };
        await timed("read", () => pool.query(sum));
      } else {
        number += 1;
        const note = ["insert into ledger (client, number) values ($1, $2)", [client, number]];
        const late = chance > 0.8;
        const statements = late ? [balance, note, add] : [note, add];
        try {
          await timed("write", () => transaction(statements));
        } catch (error) {
          if (!late || error.code !== "40001") throw error;
          counts["told to retry"] += 1;
          await timed("write", () => transaction(statements));
          counts.retried += 1;
        }
      }
    } catch (error) {
      errors.push(`${error.what} of client ${client}: ${error.code} ${error.message}`);
    }
  }
}

process.stdin.on("end", () => (stopping = true)).resume();
await Promise.all(Array.from({ length: clients }, (_, number) => work(first + number)));
await pool.end();
console.log(JSON.stringify({ counts, errors, longest }));
