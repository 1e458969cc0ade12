// A new table, and a column of a table that is in use.
exports.up = (pgm) => {
  pgm.createTable("node_items", { id: "id", name: { type: "text", notNull: true } });
  pgm.addColumn("pgbench_accounts", { node_note: { type: "text", notNull: true, default: "x" } });
};
exports.down = false;
