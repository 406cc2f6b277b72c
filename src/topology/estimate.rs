//! How much time and memory an audit takes, before it is begun.

use std::time::Instant;

use anyhow::{Result, ensure};
use assay_models::memory;
use assay_probes::topology::{Cloud, Drawable, Landmarks, Metric, Null, Pipeline};
use burn::tensor::Device;
use indicatif::DecimalBytes;
use ndarray::{ArrayView2, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{AUTHOR_RUNS, LEAST, MOST_IN_DIMENSION_2, Settings, author_nulls};

/// Points of the smallest cloud that is timed, how much larger each next one is, and the seconds from which on a time says enough.
const TIMED_FROM: usize = 50;
const TIMED_STEP: f64 = 1.25;
const TIMED_SECONDS: f64 = 0.3;
/// The power of the number of points that bars of random directions in 576 dimensions take from 200 to 300 points.
const MOST_POWER: f64 = 6.0;

impl Settings {
    /// Points that a complex is built on, of a cloud of so many rows.
    pub fn points_of(&self, rows: usize) -> usize {
        let rows = self.rows.min(rows);
        self.landmarks.map_or(rows, |landmarks| landmarks.count).min(rows)
    }

    /// Bytes that the distances and bars of a cloud of so many rows take at the most, about.
    pub fn bytes(&self, rows: usize) -> u64 {
        let (points, rows) = (self.points_of(rows), self.rows.min(rows));
        // Distances twice over, and of an activation-like cloud of 5000 points another 1.4 GiB of the engine's.
        let pairs = (rows * rows.saturating_sub(1) / 2) as u64;
        let at_once = if self.nulls.is_empty() { 1 } else { rayon::current_num_threads() as u64 };
        (pairs * 8 * 2 + (points * points) as u64 * 60) * at_once
    }

    /// Refuses what would take more memory than there is, or would not end, of a cloud of so many rows. `remedy` says which settings choose
    /// fewer points.
    ///
    /// # Errors
    /// With the figure.
    pub fn check_size(&self, rows: usize, remedy: &str) -> Result<()> {
        let points = self.points_of(rows);
        ensure!(
            self.max_dim < 2 || points <= MOST_IN_DIMENSION_2,
            "dimension 2 of {points} points takes too long; choose {MOST_IN_DIMENSION_2} with {remedy}"
        );
        let needed = self.bytes(rows);
        let free = memory::free(&Device::flex());
        ensure!(
            free.is_none_or(|free| needed <= free),
            "{points} points take about {}, and {} are free; choose fewer with {remedy}",
            DecimalBytes(needed),
            DecimalBytes(free.unwrap_or(0))
        );
        Ok(())
    }

    /// Seconds of all draws of a cloud in one metric on all cores, about, and without nulls of its own bars: of each null one draw is timed on as many of its first points as take
    /// long enough to be timed, and its time carried on to all points as a power of their number. Where more points make bars harder to find than
    /// that, as in many dimensions, it takes longer.
    ///
    /// # Errors
    /// If the cloud is not one of the metric.
    pub fn seconds<'a>(&self, metric: Metric, cloud: impl Into<Cloud<'a>>) -> Result<f64> {
        let cloud = cloud.into();
        let pipeline = self.pipeline(metric, cloud.points.ncols());
        if self.nulls.is_empty() || cloud.points.nrows() < LEAST {
            return seconds_of_bars(&pipeline, cloud.points);
        }
        // What is drawn from takes long in many dimensions.
        let made = |null: Null| -> Result<(Drawable, f64)> {
            let started = Instant::now();
            let drawable = Drawable::of(null, cloud, self.seed)?;
            Ok((drawable, started.elapsed().as_secs_f64()))
        };
        let (mut alone, mut spread) = (0.0, 0.0);
        for &null in &self.nulls {
            let (drawable, seconds) = made(null)?;
            // Once for all points and once for parts of them.
            alone += 2.0 * seconds;
            let draw = drawable.draw(&mut ChaCha8Rng::seed_from_u64(self.seed));
            spread += seconds_of_bars(&pipeline, draw.view())? * self.draws as f64;
        }
        for null in author_nulls(metric) {
            spread += made(null)?.1 * AUTHOR_RUNS as f64;
        }
        Ok(alone + spread / rayon::current_num_threads().min(self.draws.max(1)) as f64)
    }
}

/// Seconds of a cloud's bars on one core, as [`Settings::seconds`] has them. Where landmarks stand for the cloud, it is their number that grows.
fn seconds_of_bars(pipeline: &Pipeline, cloud: ArrayView2<'_, f64>) -> Result<f64> {
    let all = pipeline.landmarks.map_or(cloud.nrows(), |landmarks| landmarks.count.min(cloud.nrows()));
    let timed = |points: usize| -> Result<f64> {
        let started = Instant::now();
        match pipeline.landmarks {
            Some(landmarks) => {
                let fewer = Landmarks { count: points, ..landmarks };
                Pipeline { landmarks: Some(fewer), ..pipeline.clone() }.diagram(cloud)?
            }
            None => pipeline.diagram(cloud.slice(s![..points, ..]))?,
        };
        Ok(started.elapsed().as_secs_f64())
    };
    let mut times: Vec<(usize, f64)> = Vec::new();
    let mut points = TIMED_FROM.min(all);
    loop {
        times.push((points, timed(points)?));
        if points == all {
            return Ok(times[times.len() - 1].1);
        }
        if times.len() > 2 && times[times.len() - 1].1 >= TIMED_SECONDS {
            break;
        }
        points = ((points as f64 * TIMED_STEP) as usize).min(all);
    }
    let [(few, short), _, (many, long)] = times[times.len() - 3..] else { unreachable!("three were timed") };
    // A busy machine makes times, and so the power, as large as it likes.
    let power = ((long / short).ln() / (many as f64 / few as f64).ln()).clamp(2.0, MOST_POWER);
    Ok(long * (all as f64 / many as f64).powf(power))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn a_time_that_is_carried_on_is_of_the_size_of_one_that_is_measured() {
        let cloud = Array2::from_shape_fn((400, 3), |(i, j)| ((i * 7919 + j * 104_729) % 1000) as f64 / 1000.0);
        let pipeline = Pipeline::plain(Metric::Euclidean);
        let guessed = seconds_of_bars(&pipeline, cloud.view()).unwrap();
        let started = Instant::now();
        pipeline.diagram(cloud.view()).unwrap();
        let measured = started.elapsed().as_secs_f64();
        assert!(guessed > measured / 20.0 && guessed < measured * 20.0, "{guessed} and {measured}");
    }
}
