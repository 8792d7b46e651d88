//! Several choices made together: the valid combinations of the options of several heads.
//!
//! A head has options; a combination names one option of every head. "Concatenated" arrays hold
//! the entries of head 0, then those of head 1, and so on.
//!
//! Invariants:
//! * combinations are unique and in lexicographic order, so a tie goes to the lowest option of the
//!   first head that differs;
//! * a combination that is not valid, or that uses an option that is not allowed, is never
//!   returned, and its probability is 0;
//! * scores are added from the first head to the last, in single calls and in batches alike;
//! * after construction nothing is allocated.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use crate::argmax::{BatchError, check_batch};

mod errors;

pub use errors::{CombinationsError, JointError};

/// Most combinations that one set may hold.
pub const MAX_COMBINATIONS: usize = 4096;

/// Largest magnitude of a score: sums of scores stay finite for every possible number of heads.
pub const MAX_SCORE: f64 = 1e300;

/// Rows of a batch that are scored side by side.
const LANES: usize = 8;
/// Combinations compared before the best one so far is looked at.
const BLOCK: usize = 4;
/// Concatenated entries up to which a batch is scored side by side, from a buffer on the stack.
const MAX_SIDE_BY_SIDE: usize = 256;

/// An entry of an array of scores. Somebody else's array, which may change while it is read, is
/// read as atomics, entry by entry: so it need not be copied.
pub trait Score {
    /// Its value now.
    fn score(&self) -> f64;
}

impl Score for f64 {
    #[inline(always)]
    fn score(&self) -> f64 {
        *self
    }
}

/// The bits of an `f64`.
impl Score for AtomicU64 {
    #[inline(always)]
    fn score(&self) -> f64 {
        f64::from_bits(self.load(Relaxed))
    }
}

/// An entry of an array of flags; see [`Score`].
pub trait Flag {
    /// Its value now.
    fn flag(&self) -> bool;
}

impl Flag for bool {
    #[inline(always)]
    fn flag(&self) -> bool {
        *self
    }
}

/// 0 is false, everything else true.
impl Flag for AtomicU8 {
    #[inline(always)]
    fn flag(&self) -> bool {
        self.load(Relaxed) != 0
    }
}

/// The valid combinations of several heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combinations {
    /// Number of options of each head.
    sizes: Vec<u16>,
    /// Where the entries of each head start in a concatenated array.
    starts: Vec<u32>,
    /// One row of options a combination, in lexicographic order.
    options: Vec<u16>,
    /// The same as positions in a concatenated array.
    positions: Vec<u32>,
    /// The positions once more where a batch is scored side by side, else empty: an index of one
    /// byte into [`MAX_SIDE_BY_SIDE`] entries needs no check.
    narrow: Vec<u8>,
    /// Entries of a concatenated array.
    width: usize,
}

impl Combinations {
    /// The combinations of heads with `sizes` options each: the `valid` ones, a list of rows of one
    /// option a head in any order and with repetitions, or all of them.
    ///
    /// # Errors
    ///
    /// [`CombinationsError`] if there is no head, a head has no option or too many, `valid` is
    /// empty, not made of whole rows or names an option that does not exist, or there are more than
    /// [`MAX_COMBINATIONS`].
    pub fn new(sizes: &[usize], valid: Option<&[u16]>) -> Result<Self, CombinationsError> {
        if sizes.is_empty() {
            return Err(CombinationsError::NoHeads);
        }
        for (head, &size) in sizes.iter().enumerate() {
            if size == 0 || size > usize::from(u16::MAX) {
                return Err(CombinationsError::HeadSize { head, size });
            }
        }
        let options = match valid {
            Some(valid) => sorted_rows(sizes, valid)?,
            None => product(sizes)?,
        };
        let starts: Vec<u32> = sizes
            .iter()
            .scan(0, |next, &size| {
                let start = *next;
                *next += size as u32;
                Some(start)
            })
            .collect();
        let positions: Vec<u32> = options
            .chunks_exact(sizes.len())
            .flat_map(|row| row.iter().zip(&starts))
            .map(|(&option, start)| start + u32::from(option))
            .collect();
        let width: usize = sizes.iter().sum();
        let narrow =
            if width <= MAX_SIDE_BY_SIDE { positions.iter().map(|&at| at as u8).collect() } else { Vec::new() };
        Ok(Self { narrow, sizes: sizes.iter().map(|&size| size as u16).collect(), starts, options, positions, width })
    }

    /// Number of combinations, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.options.len() / self.heads()
    }

    /// Number of heads.
    pub fn heads(&self) -> usize {
        self.sizes.len()
    }

    /// Number of entries of a concatenated array: the options of all heads.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The options of one combination, one a head.
    pub fn row(&self, combination: usize) -> &[u16] {
        &self.options[combination * self.heads()..][..self.heads()]
    }

    /// The index of a row of options; `None` if it is not valid.
    pub fn index_of(&self, row: &[u16]) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.row(middle).cmp(row) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Whether a row of options is one of the combinations.
    pub fn is_valid(&self, row: &[u16]) -> bool {
        self.index_of(row).is_some()
    }

    /// Number of combinations whose options are all allowed; `allowed` is concatenated.
    ///
    /// # Errors
    ///
    /// [`JointError::ShapeMismatch`].
    pub fn allowed_count(&self, allowed: &[bool]) -> Result<usize, JointError> {
        self.check_width(allowed.len())?;
        Ok(self.rows().filter(|row| is_allowed(row, allowed)).count())
    }

    /// The combination with the largest sum of scores among those whose options are all allowed.
    /// `scores` and `allowed` are concatenated.
    ///
    /// # Errors
    ///
    /// [`JointError`] if a length is wrong, the score of an allowed option is NaN or beyond
    /// ±[`MAX_SCORE`], or no valid combination is allowed.
    pub fn argmax(&self, scores: &[impl Score], allowed: &[impl Flag]) -> Result<usize, JointError> {
        self.check_width(scores.len())?;
        self.check_width(allowed.len())?;
        check_scores(scores, allowed)?;
        let mut best = None;
        let mut best_sum = f64::NEG_INFINITY;
        for (combination, row) in self.rows().enumerate() {
            let mut sum = 0.0;
            let mut row_allowed = true;
            for &position in row {
                sum += scores[position as usize].score();
                row_allowed &= allowed[position as usize].flag();
            }
            // Strict `>`: an equal later sum must not displace an earlier one.
            if row_allowed && sum > best_sum {
                best = Some(combination);
                best_sum = sum;
            }
        }
        best.ok_or(JointError::NoneAllowed)
    }

    /// [`Combinations::argmax`] of every row: `scores` and `allowed` hold `out.len()` concatenated
    /// rows, row after row, and `out` gets one combination a row.
    ///
    /// # Errors
    ///
    /// [`BatchError`] with the first row that has no answer; what `out` then holds is unspecified.
    pub fn argmax_batch(
        &self,
        scores: &[impl Score],
        allowed: &[impl Flag],
        out: &mut [u32],
    ) -> Result<(), BatchError<JointError>> {
        check_batch(scores, allowed, self.width, out)?;
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { self.argmax_batch_avx2(scores, allowed, out) };
        }
        self.argmax_batch_with(scores, allowed, out)
    }

    /// The same code for wider registers; the operations and so the bits are the same.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn argmax_batch_avx2(
        &self,
        scores: &[impl Score],
        allowed: &[impl Flag],
        out: &mut [u32],
    ) -> Result<(), BatchError<JointError>> {
        self.argmax_batch_with(scores, allowed, out)
    }

    #[inline(always)]
    fn argmax_batch_with(
        &self,
        scores: &[impl Score],
        allowed: &[impl Flag],
        out: &mut [u32],
    ) -> Result<(), BatchError<JointError>> {
        let side_by_side = if self.width <= MAX_SIDE_BY_SIDE { out.len() / LANES * LANES } else { 0 };
        let mut columns = [[0.0; LANES]; MAX_SIDE_BY_SIDE];
        for first in (0..side_by_side).step_by(LANES) {
            let entries = first * self.width..(first + LANES) * self.width;
            let (scores, allowed) = (&scores[entries.clone()], &allowed[entries]);
            let answered = transpose(scores, allowed, &mut columns[..self.width])
                && self.argmax_lanes(&columns, &mut out[first..first + LANES]);
            if !answered {
                self.argmax_rows(scores, allowed, first, &mut out[first..first + LANES])?;
            }
        }
        let rest = side_by_side * self.width;
        self.argmax_rows(&scores[rest..], &allowed[rest..], side_by_side, &mut out[side_by_side..])
    }

    /// Rows one by one; the first of them is row `first` of the batch.
    fn argmax_rows(
        &self,
        scores: &[impl Score],
        allowed: &[impl Flag],
        first: usize,
        out: &mut [u32],
    ) -> Result<(), BatchError<JointError>> {
        for (row, out) in out.iter_mut().enumerate() {
            let entries = row * self.width..(row + 1) * self.width;
            let combination = self
                .argmax(&scores[entries.clone()], &allowed[entries])
                .map_err(|error| BatchError::Row { row: first + row, error })?;
            *out = combination as u32;
        }
        Ok(())
    }

    /// The argmax of rows side by side; `columns[position][lane]` is −∞ where not allowed. False if
    /// a row allows no combination.
    #[inline(always)]
    fn argmax_lanes(&self, columns: &[[f64; LANES]; MAX_SIDE_BY_SIDE], out: &mut [u32]) -> bool {
        match self.heads() {
            2 => self.argmax_lanes_of::<2>(columns, out),
            3 => self.argmax_lanes_of::<3>(columns, out),
            heads => self.argmax_lanes_with(columns, heads, out),
        }
    }

    /// [`Combinations::argmax_lanes_with`] compiled for a fixed number of heads.
    #[inline(always)]
    fn argmax_lanes_of<const HEADS: usize>(&self, columns: &[[f64; LANES]; MAX_SIDE_BY_SIDE], out: &mut [u32]) -> bool {
        self.argmax_lanes_with(columns, HEADS, out)
    }

    #[inline(always)]
    fn argmax_lanes_with(&self, columns: &[[f64; LANES]; MAX_SIDE_BY_SIDE], heads: usize, out: &mut [u32]) -> bool {
        // The largest sum, and the first block of combinations that holds it: comparing whole
        // blocks leaves an addition and a maximum for each combination.
        let mut best = [f64::NEG_INFINITY; LANES];
        let mut best_block = [0.0; LANES];
        for (block, rows) in self.narrow.chunks(BLOCK * heads).enumerate() {
            let mut largest = [f64::NEG_INFINITY; LANES];
            for row in rows.chunks_exact(heads) {
                let mut sum = columns[usize::from(row[0])];
                for &position in &row[1..] {
                    let column = &columns[usize::from(position)];
                    for lane in 0..LANES {
                        sum[lane] += column[lane];
                    }
                }
                for lane in 0..LANES {
                    largest[lane] = if sum[lane] > largest[lane] { sum[lane] } else { largest[lane] };
                }
            }
            let block = block as f64;
            for lane in 0..LANES {
                let better = largest[lane] > best[lane];
                best_block[lane] = if better { block } else { best_block[lane] };
                best[lane] = if better { largest[lane] } else { best[lane] };
            }
        }
        for lane in 0..LANES {
            if best[lane] == f64::NEG_INFINITY {
                return false;
            }
            let first = best_block[lane] as usize * BLOCK;
            let rows = self.narrow[first * heads..].chunks_exact(heads);
            let mut equal = 0u32;
            for (within, row) in rows.take(BLOCK).enumerate() {
                let mut sum = columns[usize::from(row[0])][lane];
                for &position in &row[1..] {
                    sum += columns[usize::from(position)][lane];
                }
                equal |= u32::from(sum == best[lane]) << within;
            }
            let within = equal.trailing_zeros();
            out[lane] = first as u32 + within;
        }
        true
    }

    /// Joint probabilities: P(combination) ∝ the product of the heads' probabilities, over the
    /// valid combinations whose options are all allowed, mixed with `min_exploration` of the
    /// uniform distribution over these. Where all products are 0, uniform.
    ///
    /// `head_probs` and `allowed` are concatenated; `out` gets one entry a combination and returns
    /// how many are allowed.
    ///
    /// # Errors
    ///
    /// [`JointError`] if a length is wrong, the probability of an allowed option is NaN, infinite or
    /// negative, or no valid combination is allowed.
    pub fn probabilities(
        &self,
        head_probs: &[f64],
        allowed: &[bool],
        min_exploration: f64,
        out: &mut [f64],
    ) -> Result<usize, JointError> {
        debug_assert!((0.0..=1.0).contains(&min_exploration), "{min_exploration}");
        self.check_width(head_probs.len())?;
        self.check_width(allowed.len())?;
        self.check_len(out.len())?;
        if let Some(position) =
            (0..self.width).find(|&position| allowed[position] && !(0.0..f64::INFINITY).contains(&head_probs[position]))
        {
            return Err(JointError::BadProbability { position, probability: head_probs[position] });
        }
        let mut total = 0.0;
        let mut count = 0usize;
        for (row, out) in self.rows().zip(&mut *out) {
            *out = 0.0;
            if is_allowed(row, allowed) {
                *out = row.iter().fold(1.0, |product, &at| product * head_probs[at as usize]);
                total += *out;
                count += 1;
            }
        }
        if count == 0 {
            return Err(JointError::NoneAllowed);
        }
        let uniform = 1.0 / count as f64;
        for (row, out) in self.rows().zip(&mut *out) {
            if is_allowed(row, allowed) {
                let learned = if total > 0.0 { *out / total } else { uniform };
                *out = (1.0 - min_exploration) * learned + min_exploration * uniform;
            }
        }
        Ok(count)
    }

    /// The marginal probability of every option, from the probabilities of the combinations; `out`
    /// is concatenated.
    ///
    /// # Errors
    ///
    /// [`JointError::ShapeMismatch`].
    pub fn marginals(&self, probs: &[f64], out: &mut [f64]) -> Result<(), JointError> {
        self.check_len(probs.len())?;
        self.check_width(out.len())?;
        out.fill(0.0);
        for (row, probability) in self.rows().zip(probs) {
            for &position in row {
                out[position as usize] += probability;
            }
        }
        Ok(())
    }

    /// The combinations as positions in a concatenated array.
    fn rows(&self) -> std::slice::ChunksExact<'_, u32> {
        self.positions.chunks_exact(self.heads())
    }

    fn check_width(&self, found: usize) -> Result<(), JointError> {
        check_length(self.width, found)
    }

    fn check_len(&self, found: usize) -> Result<(), JointError> {
        check_length(self.len(), found)
    }
}

/// The index that `u` in [0, 1) falls on, going through `probs` in order: the inverse of their
/// distribution function. An entry of probability 0 is never returned, also where rounding leaves
/// the sum below `u`: then it is the last entry that can happen.
///
/// # Panics
///
/// If no entry is above 0.
pub fn draw(probs: &[f64], u: f64) -> usize {
    let mut below = 0.0;
    let mut last = None;
    for (index, &probability) in probs.iter().enumerate() {
        if probability > 0.0 {
            below += probability;
            last = Some(index);
            if u < below {
                break;
            }
        }
    }
    last.expect("some probability is above 0")
}

/// All combinations, in lexicographic order.
fn product(sizes: &[usize]) -> Result<Vec<u16>, CombinationsError> {
    let count = sizes.iter().fold(1usize, |count, &size| count.saturating_mul(size));
    check_count(count)?;
    let mut options = Vec::with_capacity(count * sizes.len());
    for combination in 0..count {
        // The last head moves fastest.
        let mut repeat = count;
        for &size in sizes {
            repeat /= size;
            options.push((combination / repeat % size) as u16);
        }
    }
    Ok(options)
}

/// The rows of `valid`, checked, sorted, each once.
fn sorted_rows(sizes: &[usize], valid: &[u16]) -> Result<Vec<u16>, CombinationsError> {
    if valid.is_empty() {
        return Err(CombinationsError::NoCombinations);
    }
    if !valid.len().is_multiple_of(sizes.len()) {
        return Err(CombinationsError::PartialRow { entries: valid.len(), heads: sizes.len() });
    }
    let mut rows: Vec<&[u16]> = valid.chunks_exact(sizes.len()).collect();
    for (row, options) in rows.iter().enumerate() {
        for (head, (&option, &size)) in options.iter().zip(sizes).enumerate() {
            if usize::from(option) >= size {
                return Err(CombinationsError::UnknownOption { row, head, option, size });
            }
        }
    }
    rows.sort_unstable();
    rows.dedup();
    check_count(rows.len())?;
    Ok(rows.concat())
}

fn check_count(count: usize) -> Result<(), CombinationsError> {
    if count > MAX_COMBINATIONS {
        return Err(CombinationsError::TooMany { count });
    }
    Ok(())
}

fn check_length(expected: usize, found: usize) -> Result<(), JointError> {
    if expected != found {
        return Err(JointError::ShapeMismatch { expected, found });
    }
    Ok(())
}

fn is_allowed(row: &[u32], allowed: &[bool]) -> bool {
    row.iter().all(|&position| allowed[position as usize])
}

fn check_scores(scores: &[impl Score], allowed: &[impl Flag]) -> Result<(), JointError> {
    for (position, (score, allowed)) in scores.iter().zip(allowed).enumerate() {
        let score = score.score();
        if allowed.flag() && (score.is_nan() || score.abs() > MAX_SCORE) {
            return Err(JointError::BadScore { position, score });
        }
    }
    Ok(())
}

/// Puts rows side by side, −∞ for what is not allowed. False if an allowed score is out of range.
#[inline(always)]
fn transpose(scores: &[impl Score], allowed: &[impl Flag], columns: &mut [[f64; LANES]]) -> bool {
    // On the bits, without branches: masks are as good as random.
    const SIGN: u64 = 1 << 63;
    let limit = MAX_SCORE.to_bits();
    let never = f64::NEG_INFINITY.to_bits();
    let width = columns.len();
    let mut beyond_limit = 0;
    let scores: [&[_]; LANES] = std::array::from_fn(|lane| &scores[lane * width..][..width]);
    let allowed: [&[_]; LANES] = std::array::from_fn(|lane| &allowed[lane * width..][..width]);
    for (position, column) in columns.iter_mut().enumerate() {
        let bits: [u64; LANES] = std::array::from_fn(|lane| scores[lane][position].score().to_bits());
        let keep: [u64; LANES] = std::array::from_fn(|lane| u64::from(allowed[lane][position].flag()).wrapping_neg());
        for lane in 0..LANES {
            column[lane] = f64::from_bits((bits[lane] & keep[lane]) | (never & !keep[lane]));
            // The sign bit says that the magnitude, or NaN's bits, are above the limit.
            beyond_limit |= limit.wrapping_sub(bits[lane] & !SIGN) & keep[lane];
        }
    }
    beyond_limit & SIGN == 0
}

#[cfg(test)]
mod tests;
