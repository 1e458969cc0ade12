// What cannot be in a transaction.
exports.up = (pgm) => {
  pgm.noTransaction();
  pgm.createIndex("node_items", "name", { name: "node_items_name", concurrently: true });
};
exports.down = false;
