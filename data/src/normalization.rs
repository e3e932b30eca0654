//! Published means and standard deviations of datasets, in units of v/255, and which of them stands where none is given.

/// One pair a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// What it is called, as in `--preprocess cifar10`.
    pub name: &'static str,
    /// Means.
    pub mean: &'static [f32],
    /// Standard deviations.
    pub std: &'static [f32],
}

/// CIFAR-10's.
pub const CIFAR10: Published =
    Published { name: "cifar10", mean: &[0.4914, 0.4822, 0.4465], std: &[0.2470, 0.2435, 0.2616] };
/// CIFAR-100's.
pub const CIFAR100: Published =
    Published { name: "cifar100", mean: &[0.5071, 0.4865, 0.4409], std: &[0.2673, 0.2564, 0.2762] };
/// MNIST's.
pub const MNIST: Published = Published { name: "mnist", mean: &[0.1307], std: &[0.3081] };
/// Fashion-MNIST's.
pub const FASHION_MNIST: Published = Published { name: "fashion-mnist", mean: &[0.2860], std: &[0.3530] };
/// ImageNet's.
pub const IMAGENET: Published =
    Published { name: "imagenet", mean: &[0.485, 0.456, 0.406], std: &[0.229, 0.224, 0.225] };

/// What images of so many channels are normalized with where nothing is said: MNIST's for one, CIFAR-10's for three, and
/// none for any other number.
pub fn usual(channels: usize) -> Option<Published> {
    [MNIST, CIFAR10].into_iter().find(|published| published.mean.len() == channels)
}
