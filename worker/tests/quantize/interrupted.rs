//! Runs that end early outside of training, and go on where they were.

use dyadic_store::spec::{JobSpec, Method};
use dyadic_worker::data::Loader;
use dyadic_worker::error::WorkerError;
use dyadic_worker::observer::{Control, Observer, Phase, Progress};
use dyadic_worker::quantize::{Outcome, quantize};

use super::{Recorder, halves, import, request, run, shape_of, spec};

#[test]
fn a_run_that_ends_while_it_calibrates_does_not_measure_the_float_network_again() {
    /// Stops at the first sign of calibration.
    #[derive(Default)]
    struct Killed(Recorder);
    impl Observer for Killed {
        fn progress(&mut self, p: Progress) -> Control {
            if p.phase == Phase::Calibrate { Control::Stop } else { Control::Continue }
        }
        fn metric(&mut self, name: &str, step: i64, value: f64) {
            self.0.metric(name, step, value);
        }
        fn log(&mut self, line: &str) {
            self.0.log(line);
        }
        fn wants_checkpoint(&mut self, step: u64) -> bool {
            step == 0
        }
        fn checkpoint(&mut self, bytes: Vec<u8>, step: u64) -> Control {
            self.0.checkpoint(bytes, step)
        }
    }
    let network = import("lenet_relu_dynamo20");
    let shape = shape_of(&network);
    let images = halves(48, shape, 5);
    let loader = Loader::in_memory(images.clone());
    let spec = spec(Method::Apq, 5, shape[2]);
    let whole =
        run(&network, &images, &images, &spec, None, &mut Recorder::default()).expect("a quantization");
    let mut killed = Killed::default();
    let stopped = quantize(&request(&network, [&loader, &loader], &spec, None), &mut killed);
    assert!(matches!(stopped, Err(WorkerError::Stopped)));
    let checkpoint = killed.0.checkpoint.expect("the measurement was kept");
    let mut second = Recorder::default();
    let resumed = run(&network, &images, &images, &spec, Some(&checkpoint), &mut second).expect("resumed");
    assert!(second.phases.iter().all(|p| p.phase != Phase::Float), "{:?}", second.phases);
    assert_eq!(resumed.artifact, whole.artifact);
    assert_eq!(resumed.report.closeness_db, whole.report.closeness_db);
}

#[test]
fn a_run_that_ends_amid_a_pass_over_the_evaluation_images_goes_on_there() {
    /// Notes where a phase goes on, keeps a checkpoint after its next batch, and ends there if asked, as a drained worker does.
    struct Watcher {
        phase: Phase,
        first: Option<u64>,
        end: bool,
        recorder: Recorder,
    }
    impl Observer for Watcher {
        fn progress(&mut self, p: Progress) -> Control {
            if p.phase == self.phase {
                self.first.get_or_insert(p.done);
            }
            self.recorder.progress(p)
        }
        fn metric(&mut self, name: &str, step: i64, value: f64) {
            self.recorder.metric(name, step, value);
        }
        fn log(&mut self, line: &str) {
            self.recorder.log(line);
        }
        fn wants_checkpoint(&mut self, _step: u64) -> bool {
            false
        }
        fn wants_checkpoint_within(&mut self, phase: Phase) -> bool {
            phase == self.phase
        }
        fn checkpoint(&mut self, bytes: Vec<u8>, step: u64) -> Control {
            let _ = self.recorder.checkpoint(bytes, step);
            if self.end { Control::Stop } else { Control::Continue }
        }
    }
    let network = import("lenet_relu_dynamo20");
    let shape = shape_of(&network);
    let loader = Loader::in_memory(halves(600, shape, 5));
    let spec = JobSpec { epochs: 1, ema: Some(0.9), ..spec(Method::Aptq, 2, shape[2]) };
    let run = |resume: Option<&[u8]>, observer: &mut dyn Observer| {
        quantize(&request(&network, [&loader, &loader], &spec, resume), observer)
    };
    let whole = run(None, &mut Recorder::default()).expect("a quantization");
    assert!(whole.report.seconds.values().all(|&s| s >= 0.0) && whole.report.seconds.contains_key("train"));
    for phase in [Phase::Float, Phase::Verify] {
        let watcher = |end| Watcher { phase, first: None, end, recorder: Recorder::default() };
        let mut drained = watcher(true);
        assert!(matches!(run(None, &mut drained), Err(WorkerError::Stopped)));
        let last = *drained.recorder.phases.last().expect("it has begun");
        assert!(last.phase == phase && last.done > 0 && last.done < last.total, "{last:?}");
        let checkpoint = drained.recorder.checkpoint.expect("what was done is kept");
        let mut second = watcher(false);
        let resumed = run(Some(&checkpoint), &mut second).expect("resumed");
        assert!(
            second.first.is_some_and(|first| first > last.done),
            "{phase:?} began anew: {:?}",
            second.first
        );
        assert_eq!(resumed.artifact, whole.artifact, "{phase:?}");
        let figures = |o: &Outcome| {
            (o.report.logits_sha256.clone(), o.report.accuracy, o.report.agreement, o.report.closeness_db)
        };
        assert_eq!(figures(&resumed), figures(&whole), "{phase:?}");
    }
}
