//! How likely each of several independent posteriors gives the largest value:
//! P(a wins) = ∫ f_a Π_{b≠a} F_b, by quadrature.
//!
//! One walk from right to left over panels that all posteriors share. A panel is as wide as the most
//! finely structured posterior in it allows; a posterior joins where its right tail begins to
//! matter. The mass above each point is accumulated along the way, so no distribution function is
//! ever evaluated. The walk ends where the largest value almost surely lies to the right.
//!
//! Equal posteriors are one group with F raised to a power: they get equal probabilities, and 1,024
//! untried options cost as much as one.

use super::Posterior;
use super::density::{Density, Place, Points};
use super::panel::{Lanes, NODES, TO_RIGHT_END, WEIGHTS};

/// A tail is left out where it holds less than exp(−TAIL), and less still among many posteriors.
const TAIL: f64 = 18.0;

/// The walk ends where the largest value lies to the left with less than this probability.
const NEGLIGIBLE: f64 = 1e-9;

/// Width of a panel in local scales (standard deviations, where a posterior is close to normal),
/// for two posteriors; the maximum of many has more structure than any of them.
const PANEL_WIDTH: f64 = 2.5;
const NARROWING: f64 = 0.05;

/// Equal posteriors, and what the walk knows about them so far.
struct Group {
    density: Density,
    members: u32,
    left_end: f64,
    right_end: f64,
    /// Mass of one member to the right of the current place.
    above: f64,
    /// Probability, so far, that a given member wins.
    share: f64,
    /// In the current panel: the weighted density of a member times F of its other equals; F of the
    /// whole group; the product of F over the groups before this one.
    wins: Lanes,
    below: Lanes,
    before: Lanes,
}

/// Writes to `out` the probability that each of the independent `posteriors` gives the largest
/// value. All must be of one kind.
///
/// Meant for Beta parameters of at least 1 and degrees of freedom of at least 2: smaller ones take
/// longer. The absolute error is about 1e-8; it grows where Beta parameters pass 1e9, and a Student-t
/// is taken no finer than 1e-9 of its location.
///
/// # Panics
///
/// If `out` is not as long as `posteriors`.
pub fn win_probabilities(posteriors: &[Posterior], out: &mut [f64]) {
    assert_eq!(posteriors.len(), out.len(), "one probability a posterior");
    let Some(first) = posteriors.first() else {
        return;
    };
    debug_assert!(
        posteriors.iter().all(|other| std::mem::discriminant(other) == std::mem::discriminant(first)),
        "posteriors of different kinds"
    );
    let (mut groups, group_of) = group(posteriors);
    let total = if groups.len() == 1 {
        groups[0].share = 1.0;
        f64::from(groups[0].members)
    } else {
        let narrowing = 1.0 + NARROWING * libm::log(0.5 * posteriors.len() as f64);
        let log_odds = matches!(first, Posterior::Beta { .. });
        walk(&mut groups, log_odds, PANEL_WIDTH / narrowing);
        groups.iter().fold(0.0, |total, group| total + group.share * f64::from(group.members))
    };
    for (out, &group) in out.iter_mut().zip(&group_of) {
        *out = groups[group as usize].share / total;
    }
}

/// The groups, by falling right end, and the group of each posterior. Nothing but the parameters
/// decides the order, so the order of the arguments does not matter.
fn group(posteriors: &[Posterior]) -> (Vec<Group>, Vec<u32>) {
    let tail = TAIL + 0.5 * libm::log(posteriors.len() as f64);
    let mut by_value: Vec<u32> = (0..posteriors.len() as u32).collect();
    by_value.sort_unstable_by_key(|&index| bits(&posteriors[index as usize]));
    let mut groups: Vec<(Group, u32)> = Vec::with_capacity(posteriors.len());
    let mut group_of = vec![0; posteriors.len()];
    let mut last = None;
    for &index in &by_value {
        let posterior = &posteriors[index as usize];
        if last.replace(bits(posterior)) != Some(bits(posterior)) {
            let number = groups.len() as u32;
            groups.push((Group::new(posterior, tail), number));
        }
        let number = groups.len() - 1;
        groups[number].0.members += 1;
        group_of[index as usize] = number as u32;
    }
    groups.sort_by(|(a, _), (b, _)| b.right_end.total_cmp(&a.right_end));
    let mut position = vec![0; groups.len()];
    for (new, (_, old)) in groups.iter().enumerate() {
        position[*old as usize] = new as u32;
    }
    for group in &mut group_of {
        *group = position[*group as usize];
    }
    (groups.into_iter().map(|(group, _)| group).collect(), group_of)
}

fn bits(posterior: &Posterior) -> [u64; 3] {
    match *posterior {
        Posterior::Beta { alpha, beta } => [alpha.to_bits(), beta.to_bits(), 0],
        Posterior::StudentT { df, location, scale } => [df.to_bits(), location.to_bits(), scale.to_bits()],
    }
}

/// Integrates every group's share from the right end of the first to where nothing is left.
fn walk(groups: &mut [Group], log_odds: bool, width: f64) {
    // To the left of any posterior's left end, that posterior alone makes the maximum lie above.
    let left_end = groups.iter().fold(f64::NEG_INFINITY, |end, group| end.max(group.left_end));
    let mut right = groups[0].right_end;
    let mut joined = 0;
    while right > left_end {
        let place = Place::new(right, log_odds);
        let mut panel = groups[..joined]
            .iter()
            .map(|group| group.density.panel_width(&place, width))
            .fold(right - left_end, f64::min);
        while joined < groups.len() && groups[joined].right_end > right - panel {
            let own = groups[joined].density.panel_width(&place, width);
            let distance = right - groups[joined].right_end;
            if own < distance {
                // Too fine for this panel, which therefore ends where the newcomer begins.
                panel = distance;
                break;
            }
            panel = panel.min(own);
            joined += 1;
        }
        let left = right - panel;
        let rest = add_panel(&mut groups[..joined], &Points::new(left, right, log_odds));
        if rest < NEGLIGIBLE {
            break;
        }
        right = left;
    }
}

/// Adds one panel to every group's share; returns the probability that all values lie to its left.
fn add_panel(groups: &mut [Group], points: &Points) -> f64 {
    let mut before = [1.0; NODES];
    let mut rest = 1.0;
    for group in &mut *groups {
        let density = group.density.at(points);
        let mut above = [group.above; NODES];
        for j in 0..NODES {
            for i in 0..NODES {
                above[i] += TO_RIGHT_END[j][i] * density[j];
            }
            group.above += WEIGHTS[j] * density[j];
        }
        group.before = before;
        for i in 0..NODES {
            let below = (1.0 - above[i]).max(0.0);
            let equals = power(below, group.members - 1);
            group.wins[i] = WEIGHTS[i] * density[i] * equals;
            group.below[i] = equals * below;
            before[i] *= group.below[i];
        }
        rest *= power((1.0 - group.above).max(0.0), group.members);
    }
    let mut after = [1.0; NODES];
    for group in groups.iter_mut().rev() {
        for (i, after) in after.iter_mut().enumerate() {
            group.share += group.wins[i] * group.before[i] * *after;
            *after *= group.below[i];
        }
    }
    rest
}

fn power(base: f64, mut exponent: u32) -> f64 {
    let (mut square, mut product) = (base, 1.0);
    while exponent > 0 {
        if exponent & 1 == 1 {
            product *= square;
        }
        square *= square;
        exponent >>= 1;
    }
    product
}

impl Group {
    fn new(posterior: &Posterior, tail: f64) -> Self {
        let density = Density::new(posterior);
        let (left_end, right_end) = density.ends(tail);
        Self {
            density,
            members: 0,
            left_end,
            right_end,
            above: 0.0,
            share: 0.0,
            wins: [0.0; NODES],
            below: [0.0; NODES],
            before: [0.0; NODES],
        }
    }
}
