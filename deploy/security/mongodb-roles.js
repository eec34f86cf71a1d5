// Makes the roles of one domain on MongoDB, from mongodb-roles.json beside it, or brings them up to date:
//
//   DOMAIN=orders mongosh "mongodb://admin@mongo-1/?authSource=admin&tls=true" mongodb-roles.js
//
// DATABASE is EVENTFLEET_MONGO_DATABASE (eventfleet). The roles are made in that database, and named
// orders-append, orders-snapshot, orders-relay, orders-project, orders-decider (command and serve),
// orders-views (to query views) and orders-audit. A user gets one of them, and serve orders-views too
// where the domain has views:
//
//   use eventfleet
//   db.createUser({user: "orders-append", pwd: passwordPrompt(), roles: ["orders-append"]})
//
// and names the database of its making in its URL: ...?authSource=eventfleet
const { DOMAIN, DATABASE = "eventfleet" } = process.env;
if (!DOMAIN) throw new Error("DOMAIN is not set");

const rights = JSON.parse(require("fs").readFileSync(`${__dirname}/mongodb-roles.json`, "utf8"));
const names = {
  events: `${DOMAIN}.events`,
  snapshots: `${DOMAIN}.snapshots`,
  dead_letters: `${DOMAIN}.dead_letters`,
  domains: "domains",
  database: "",
};
const target = db.getSiblingDB(DATABASE);

for (const [role, collections] of Object.entries(rights)) {
  const name = `${DOMAIN}-${role}`;
  const privileges = Object.entries(collections).map(([collection, actions]) => ({
    resource: { db: DATABASE, collection: names[collection] },
    actions,
  }));
  if (target.getRole(name)) target.updateRole(name, { privileges, roles: [] });
  else target.createRole({ role: name, privileges, roles: [] });
  print(`${DATABASE}: role ${name}`);
}
