//! The SQL part against a real PostgreSQL: one private cluster for all, a fresh database for each test.

#[path = "postgres/collecting.rs"]
mod collecting;
#[path = "postgres/fixture.rs"]
mod fixture;
#[path = "postgres/gate.rs"]
mod gate;
#[path = "postgres/history.rs"]
mod history;
#[path = "postgres/queue.rs"]
mod queue;
#[path = "postgres/reaping.rs"]
mod reaping;
#[path = "postgres/registry.rs"]
mod registry;
#[path = "postgres/removal.rs"]
mod removal;
#[path = "postgres/roles.rs"]
mod roles;
#[path = "postgres/transitions.rs"]
mod transitions;
