//! The drawing of a job's states, arrow by arrow, and the events that they leave.

use dyadic_store::history::EventKind;
use dyadic_store::job::JobState;

use crate::fixture::{Fixture, failure};

#[tokio::test]
async fn only_the_arrows_of_the_drawing_are_possible() {
    use JobState::{Cancelled, Failed, Queued, Running, Succeeded};
    let allowed = [
        (Queued, Running),
        (Queued, Cancelled),
        (Running, Queued),
        (Running, Succeeded),
        (Running, Failed),
        (Running, Cancelled),
    ];
    let fixture = Fixture::new().await;
    for from in JobState::ALL {
        for to in JobState::ALL.into_iter().filter(|&to| to != from) {
            let id = fixture.in_state(from).await;
            // With everything that the state needs beside, so that only the arrow itself can be refused.
            let fence = if to == Running { "fence + 1" } else { "fence" };
            let lease = if to == Running { "now()" } else { "NULL" };
            let finished = if to.is_final() { "now()" } else { "NULL" };
            let statement = format!(
                "UPDATE job SET state = '{}', fence = {fence}, lease_expires_at = {lease}, finished_at = {finished}, \
                 worker = 'w', cancel_requested = false, error_code = 'e', error_message = 'e' WHERE id = '{id}'",
                to.name()
            );
            let result = fixture.sql(&statement).await;
            if allowed.contains(&(from, to)) {
                assert_eq!(result.unwrap(), 1, "{from:?} to {to:?}");
            } else {
                let error = result.expect_err("forbidden").to_string();
                assert!(error.contains("does not go from"), "{from:?} to {to:?}: {error}");
            }
            fixture.sql(&format!("UPDATE job SET priority = -100 WHERE id = '{id}'")).await.unwrap();
            empty_queue(&fixture).await;
        }
    }
}

/// So that the next claim gets the next job.
async fn empty_queue(fixture: &Fixture) {
    fixture
        .sql("UPDATE job SET state = 'cancelled', finished_at = now() WHERE state = 'queued'")
        .await
        .unwrap();
}

#[tokio::test]
async fn only_a_claim_raises_the_fence_and_only_by_one() {
    let fixture = Fixture::new().await;
    let held = fixture.running().await;
    for change in
        ["fence = fence + 1", "fence = 0", "state = 'queued', lease_expires_at = NULL, fence = fence + 1"]
    {
        let statement = format!("UPDATE job SET {change} WHERE id = '{}'", held.job);
        let error = fixture.sql(&statement).await.expect_err(change).to_string();
        assert!(error.contains("raises the fence"), "{change}: {error}");
    }
}

#[tokio::test]
async fn rows_that_no_state_can_have_are_refused() {
    let fixture = Fixture::new().await;
    let held = fixture.running().await;
    let cases = [
        ("lease_expires_at = NULL", "running_has_a_lease"),
        ("worker = NULL", "running_was_claimed"),
        ("finished_at = now()", "finished_has_a_time"),
        ("model_id = NULL", "unfinished_has_its_inputs"),
        ("checkpoint_step = 3", "checkpoint_is_whole"),
        ("state = 'failed', lease_expires_at = NULL, finished_at = now()", "failed_has_an_error"),
        (
            "state = 'succeeded', lease_expires_at = NULL, finished_at = now(), cancel_requested = true",
            "success_was_not_cancelled",
        ),
        ("priority = 101", "job_priority_check"),
        ("progress_done = -1", "job_progress_done_check"),
    ];
    for (change, constraint) in cases {
        let statement = format!("UPDATE job SET {change} WHERE id = '{}'", held.job);
        let error = fixture.sql(&statement).await.expect_err(change).to_string();
        assert!(error.contains(constraint), "{change}: {error}");
    }
}

#[tokio::test]
async fn every_transition_is_one_event_with_who_and_fence() {
    let fixture = Fixture::new().await;
    let first = fixture.running().await;
    fixture.store.fail(first, &failure(true)).await.unwrap();
    fixture.pass_backoffs().await;
    let second = fixture.claim().await;
    fixture.complete(second).await.unwrap();

    let events = fixture.store.events(first.job, 0, 100).await.unwrap();
    let mut seen = Vec::new();
    for event in &events {
        let EventKind::State { from, to, failure, .. } = &event.kind else { panic!("{event:?}") };
        seen.push((*from, *to, event.fence, event.who.as_str(), failure.is_some()));
    }
    use JobState::{Queued, Running, Succeeded};
    let expected = [
        (None, Queued, 0, "ada", false),
        (Some(Queued), Running, 1, "w1", false),
        (Some(Running), Queued, 1, "w1", true),
        (Some(Queued), Running, 2, "w1", false),
        (Some(Running), Succeeded, 2, "w1", false),
    ];
    assert_eq!(seen, expected);
    assert!(events.windows(2).all(|pair| pair[0].number < pair[1].number));

    let resumed = fixture.store.events(first.job, events[2].number, 1).await.unwrap();
    assert_eq!(resumed, [events[3].clone()]);
}
