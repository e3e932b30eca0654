//! The SQL part against a real PostgreSQL: one private cluster for all, a fresh database for each test.

#[path = "postgres/collecting.rs"]
mod collecting;
#[path = "postgres/fixture.rs"]
mod fixture;
#[path = "postgres/history.rs"]
mod history;
#[path = "postgres/queue.rs"]
mod queue;
#[path = "postgres/reaping.rs"]
mod reaping;
#[path = "postgres/registry.rs"]
mod registry;
#[path = "postgres/roles.rs"]
mod roles;
#[path = "postgres/transitions.rs"]
mod transitions;
