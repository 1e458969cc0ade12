// What both Node programs share; ../python/exercise.py says what they print.
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";

const env = process.env;
export const where = {
  host: env.PGHOST,
  port: Number(env.PGPORT),
  user: env.PGUSER,
  password: env.PGPASSWORD,
  database: env.PGDATABASE,
};
// The test CA, when the connection is to be encrypted and the certificate checked in full.
export const ca = env.PGSSLROOTCERT && readFileSync(env.PGSSLROOTCERT, "utf8");
export const direct = env.PGSSLNEGOTIATION === "direct";

export const LARGE = 5 * 1024 * 1024;
export const ROWS = 20_000;
export const CONNECTIONS = 20;
export const WRITERS = 4;
export const WORDS = ["", "plain", "Ünïcödé ✓", "quote ' \" \\", "tab\tline\nend", null];

export const equal = assert.deepEqual;
export const say = (text) => console.log(text);
export const step = (name) => say(`step ${name}`);
export const skip = (name, why) => say(`skip ${name}: ${why}`);
export const numbers = (count) => Array.from({ length: count }, (_, number) => number);
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Waits for what has to fail with that SQLSTATE. */
export async function fails(code, work) {
  await assert.rejects(work, (error) => error.code === code || Promise.reject(error));
}

/** Asks the runner for a hold, and returns when it has opened again. */
async function opened() {
  const lines = createInterface({ input: process.stdin });
  const line = new Promise((done) => lines.once("line", done));
  say("hold");
  equal(await line, "opened");
  lines.close();
}

/** Holds under traffic: `write(number)` commits one transaction that adds one to its counter. */
export async function underTraffic(write) {
  let done = false;
  const writer = async (number) => {
    let told = 0;
    // Two more after the opening: the first may have waited in the hold.
    for (let after = 0; after < 2; told++) {
      await write(number);
      after += done ? 1 : 0;
      await sleep(2);
    }
    return told;
  };
  const control = opened().finally(() => (done = true));
  const told = await Promise.all(numbers(WRITERS).map(writer));
  await control;
  return told.reduce((sum, one) => sum + one, 0);
}

export async function main(work) {
  try {
    await work();
    say("ok");
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
}
