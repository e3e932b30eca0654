//! What is fixed when a model is loaded: the steps, in order, and where every tensor lies.
//!
//! Two tensors share memory only if one is dead before the other is written; no step writes over what it reads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::action::{Action, Rows};
use super::arena::{Place, Scratch, Size, Width};
use super::{EngineError, MEMORY_LIMIT};
use crate::check::CheckedModel;
use crate::kernels::Kernel;
use crate::kernels::level::Level;
use crate::kernels::part::{Cut, Threads};
use crate::model::Model;

/// Fewest weights that are worth a thread.
const WEIGHTS_OF_THREAD: usize = 1 << 18;

/// Elements that places are aligned to.
const ALIGNMENT: usize = 64;

/// Steps and places.
pub(super) struct Plan {
    /// One a node.
    pub(super) steps: Vec<Step>,
    /// One a tensor.
    pub(super) places: Vec<Place>,
    /// Memory in all.
    pub(super) size: Size,
    /// The vector unit for the input.
    pub(super) level: Level,
}

/// One node, ready to run.
pub(super) struct Step {
    pub(super) inputs: Vec<Place>,
    pub(super) output: Place,
    /// Rows of the output.
    pub(super) height: usize,
    pub(super) action: Box<dyn Action>,
}

impl Plan {
    /// Plans a checked model; its layers are prepared by at most so many threads.
    pub(super) fn new(
        model: &CheckedModel,
        kernel: &dyn Kernel,
        threads: usize,
    ) -> Result<Self, EngineError> {
        let (places, arenas) = place_tensors(model);
        let mut size = Size { arenas, ..Size::default() };
        if size.bytes() > MEMORY_LIMIT {
            return Err(EngineError::Memory { needed: size.bytes() });
        }
        let mut steps = Vec::with_capacity(model.nodes.len());
        for (node, action) in model.nodes.iter().zip(actions(model, kernel, threads)) {
            size.workspace = size.workspace.max(action.workspace());
            let inputs = node.inputs.iter().map(|id| places[id.0 as usize]).collect();
            let height = model.tensor(node.output).shape.h as usize;
            steps.push(Step { inputs, output: places[node.output.0 as usize], height, action });
        }
        if size.bytes() > MEMORY_LIMIT {
            return Err(EngineError::Memory { needed: size.bytes() });
        }
        Ok(Plan { steps, places, size, level: kernel.level() })
    }

    /// Memory for that many threads.
    pub(super) fn scratch(&self, threads: usize) -> Scratch {
        let mut scratch = Scratch::default();
        scratch.fit(&self.size, threads);
        scratch
    }
}

impl Step {
    /// Into how many parts to cut the step for some threads.
    pub(super) fn cut(&self, threads: Threads) -> Cut {
        if threads.count == 1 {
            return Cut::WHOLE;
        }
        self.action.cut(Rows { height: self.height, codes: self.output.len }, threads)
    }
}

/// What every node does. The largest layers are taken first, each by the next thread that is free.
fn actions(model: &Model, kernel: &dyn Kernel, threads: usize) -> Vec<Box<dyn Action>> {
    let sizes: Vec<usize> = model.nodes.iter().map(|node| node.op.operation().weights()).collect();
    let threads = threads.min(sizes.iter().sum::<usize>() / WEIGHTS_OF_THREAD);
    let of_node = |node: usize| {
        let node = &model.nodes[node];
        node.op.operation().prepare(&model.site(node), kernel)
    };
    if threads < 2 {
        return (0..sizes.len()).map(of_node).collect();
    }
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&node| std::cmp::Reverse(sizes[node]));
    let (next, actions) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(sizes.len())));
    let work = || {
        while let Some(&node) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let action = of_node(node);
            actions.lock().unwrap_or_else(PoisonError::into_inner).push((node, action));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that cannot be had is done without.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let mut actions = actions.into_inner().unwrap_or_else(PoisonError::into_inner);
    actions.sort_by_key(|&(node, _)| node);
    actions.into_iter().map(|(_, action)| action).collect()
}

/// A tensor that is alive, while places are given out.
struct Living {
    place: Place,
    last_read: usize,
}

/// First fit, in the order in which tensors are written.
fn place_tensors(model: &Model) -> (Vec<Place>, [usize; 3]) {
    let count = model.nodes.len();
    let mut last_read: Vec<usize> = vec![0; model.tensors.len()];
    for (index, node) in model.nodes.iter().enumerate() {
        last_read[node.output.0 as usize] = index;
        for id in &node.inputs {
            last_read[id.0 as usize] = index;
        }
    }
    last_read[model.output.tensor.0 as usize] = count;
    let nowhere = Place { width: Width::Signed, offset: 0, len: 0 };
    let mut places = vec![nowhere; model.tensors.len()];
    let mut arenas = [0usize; 3];
    // Sorted by offset.
    let mut living: Vec<Living> = Vec::new();
    let written = model.nodes.iter().enumerate().map(|(index, node)| (index, node.output));
    for (now, id) in std::iter::once((0, model.input.tensor)).chain(written) {
        living.retain(|tensor| tensor.last_read >= now);
        let tensor = model.tensor(id);
        let (width, len) = (Width::of(tensor.format), tensor.shape.len());
        let mut offset = 0;
        for other in living.iter().filter(|other| other.place.width.arena() == width.arena()) {
            if offset + len <= other.place.offset {
                break;
            }
            offset = offset.max((other.place.offset + other.place.len).next_multiple_of(ALIGNMENT));
        }
        let place = Place { width, offset, len };
        let arena = &mut arenas[width.arena()];
        *arena = (*arena).max(offset + len);
        let position = living.partition_point(|other| other.place.offset <= offset);
        living.insert(position, Living { place, last_read: last_read[id.0 as usize] });
        places[id.0 as usize] = place;
    }
    (places, arenas)
}
