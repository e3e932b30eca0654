//! Several threads on one sample: whatever a pool does, the outputs are the same, and panics reach the caller.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use dyadic_engine::testing::{Rng, resnet20};
use dyadic_engine::{Engine, Pool, Team};

/// Calls tasks one after the other, the last one first.
struct Backwards;

impl Pool for Backwards {
    fn threads(&self) -> usize {
        3
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).rev().for_each(task);
    }
}

/// Calls nothing.
struct Lazy;

impl Pool for Lazy {
    fn threads(&self) -> usize {
        4
    }

    fn run(&self, _: usize, _: &(dyn Fn(usize) + Sync)) {}
}

/// Calls more tasks than it was asked for, all at the same time.
struct Eager;

impl Pool for Eager {
    fn threads(&self) -> usize {
        2
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for index in 0..3 * tasks {
                scope.spawn(move || task(index % tasks));
            }
        });
    }
}

/// Says that it has no thread at all.
struct Empty;

impl Pool for Empty {
    fn threads(&self) -> usize {
        0
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

#[test]
fn every_pool_gives_the_outputs_of_one_thread() {
    let pools: [&dyn Pool; 7] =
        [&Team::new(1), &Team::new(2), &Team::new(5), &Backwards, &Lazy, &Eager, &Empty];
    let mut rng = Rng::new(9);
    for bits in [2, 8] {
        for engine in Engine::on_every_kernel(resnet20(3, bits)).expect("valid") {
            let len = 2 * engine.input_shape().len();
            let floats: Vec<f32> = (0..len).map(|_| rng.code(-200, 200) as f32 * 0.01).collect();
            let bytes: Vec<u8> = (0..len).map(|_| rng.code(0, 255) as u8).collect();
            let codes: Vec<i32> = (0..len).map(|_| rng.code(-128, 127)).collect();
            let mut scratch = engine.scratch();
            let mut expected = [vec![0.0; 2 * engine.output_len()], vec![0.0; 2 * engine.output_len()]];
            let mut expected_codes = vec![0; 2 * engine.output_len()];
            engine.run_f32(&mut scratch, &floats, 2, &mut expected[0]).expect("valid");
            engine.run_u8(&mut scratch, &bytes, 2, &mut expected[1]).expect("valid");
            engine.run_codes(&mut scratch, &codes, 2, &mut expected_codes).expect("valid");
            for (index, pool) in pools.iter().enumerate() {
                let mut actual = [vec![0.0; 2 * engine.output_len()], vec![0.0; 2 * engine.output_len()]];
                let mut actual_codes = vec![0; 2 * engine.output_len()];
                engine.run_f32_on(*pool, &mut scratch, &floats, 2, &mut actual[0]).expect("valid");
                engine.run_u8_on(*pool, &mut scratch, &bytes, 2, &mut actual[1]).expect("valid");
                engine.run_codes_on(*pool, &mut scratch, &codes, 2, &mut actual_codes).expect("valid");
                assert_eq!(actual, expected, "pool {index}, {}", engine.kernel_name());
                assert_eq!(actual_codes, expected_codes, "pool {index}, {}", engine.kernel_name());
            }
        }
    }
}

#[test]
fn a_teams_threads_work_at_the_same_time_and_after_a_sleep() {
    let team = Team::new(3);
    for round in 0..50 {
        // Ends only if three threads are in it.
        let barrier = Barrier::new(3);
        team.run(3, &|_| {
            barrier.wait();
        });
        if round % 10 == 0 {
            // Long enough for the threads to sleep; nothing depends on whether they do.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

#[test]
fn a_panic_of_a_task_reaches_the_caller_and_the_team_lives_on() {
    let team = Team::new(2);
    let caller = std::thread::current().id();
    for on_caller in [true, false, false, true] {
        let barrier = Barrier::new(2);
        let result = catch_unwind(AssertUnwindSafe(|| {
            team.run(2, &|_| {
                barrier.wait();
                let here = std::thread::current().id() == caller;
                assert_ne!(here, on_caller, "on purpose");
            });
        }));
        let panic = result.expect_err("one task has panicked");
        let text = panic.downcast_ref::<String>().expect("assertions panic with a text");
        assert!(text.contains("on purpose"), "{text}");
        let done = AtomicUsize::new(0);
        team.run(7, &|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 7);
    }
}

#[test]
fn callers_that_share_a_team_do_not_disturb_each_other() {
    let engine = Engine::new(resnet20(1, 2)).expect("valid").with_finest_parts();
    let team = Team::new(2);
    let codes = vec![5; engine.input_shape().len()];
    let mut expected = vec![0; engine.output_len()];
    engine.run_codes(&mut engine.scratch(), &codes, 1, &mut expected).expect("valid");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut scratch = engine.scratch_for(2);
                for _ in 0..10 {
                    let mut out = vec![0; engine.output_len()];
                    engine.run_codes_on(&team, &mut scratch, &codes, 1, &mut out).expect("valid");
                    assert_eq!(out, expected);
                }
            });
        }
    });
}

#[test]
fn a_task_may_use_its_own_team() {
    let team = Team::new(2);
    let done = AtomicUsize::new(0);
    team.run(3, &|_| {
        team.run(4, &|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(done.into_inner(), 12);
}
