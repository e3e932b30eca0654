//! Reads every image of a folder once, as training would, and prints what it took: `load FOLDER RESIZE CROP IMAGES THREADS`.

use std::time::Instant;

use dyadic_data::{Color, Loader, Preprocess, Reading, Source, Split};

/// Images in a batch.
const BATCH: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, resize, crop, images, threads] = &arguments[..] else {
        return Err("load FOLDER RESIZE CROP IMAGES THREADS".into());
    };
    let preprocess = Preprocess::centered(resize.parse()?, crop.parse()?, Color::Rgb);
    let reading = Reading { preprocess: Some(preprocess), ..Reading::default() };
    let source = Source::open(folder.as_ref())?;
    let loader = Loader::open(&source, Split::Train, &reading)?;
    let step = (loader.len() / images.parse::<usize>()?).max(1);
    let all: Vec<usize> = (0..loader.len()).step_by(step).collect();
    let started = Instant::now();
    let (mut seen, mut early) = (0, 0.0);
    for batch in loader.batches(all.chunks(BATCH).map(<[usize]>::to_vec), None, threads.parse()?) {
        seen += batch?.indices.len();
        if early == 0.0 && seen * 10 > all.len() {
            early = peak_mb()?;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{{\"images\": {seen}, \"seconds\": {seconds}, \"peak_mb\": {}, \"early_mb\": {early}}}",
        peak_mb()?
    );
    Ok(())
}

/// The most memory that this process had so far.
fn peak_mb() -> Result<f64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<f64>()? / 1024.0)
}
