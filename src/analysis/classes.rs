//! Two architectures or objectives on one model: which keeps more at equal L0?

use rayon::prelude::*;

use super::{Analysis, Cell, Given, Score, Turned, at_equal, on_all, r2};
use crate::frames::Class;

/// A metric of a cell minus that of another class's SAEs.
#[derive(Clone, Copy)]
pub struct Differences {
    /// At the same L0, linear in ln L0 between neighbours; `None` where the cell's L0 lies outside the range that was measured of the other.
    pub at_l0: Option<Score>,
    /// Against the other's cell of the same k, where there is one.
    pub at_k: Option<Score>,
}

/// A cell of one class against the SAEs of another at the same model, site and budget.
pub struct Contrast<'a> {
    /// The cell, of the later class of the spec.
    pub cell: &'a Cell,
    /// The earlier class.
    pub against: Class,
    /// The cell's measured L0.
    pub l0: Score,
    /// Of R².
    pub r2: Differences,
    /// Of the pooled CE_rec.
    pub ce_rec: Differences,
    /// Of the KL divergence, which is better when lower.
    pub kl: Differences,
}

/// Every cell against every class that comes earlier in the spec, in the order of the cells; none with one class. Those that nothing can be
/// said of are left out.
pub fn contrasts<'a>(analysis: &'a Analysis<'_>) -> Vec<Contrast<'a>> {
    let says = |d: Differences| d.at_l0.is_some() || d.at_k.is_some();
    let any = |c: &Contrast<'_>| [c.r2, c.ce_rec, c.kl].into_iter().any(says);
    let all: Vec<_> = opposed(analysis).collect();
    all.into_par_iter().map(|(cell, against)| contrast(analysis, cell, &against)).filter(any).collect()
}

/// Every cell with every class that comes earlier in the spec.
pub(super) fn opposed<'a>(analysis: &'a Analysis<'_>) -> impl Iterator<Item = (&'a Cell, Class)> {
    let classes = analysis.grid.classes();
    analysis.cells.iter().flat_map(move |cell| {
        let before = classes.iter().take_while(|class| !cell.setting.is_of(class));
        before.map(|against| (cell, against.clone())).collect::<Vec<_>>()
    })
}

/// A metric of a cell minus that of a class's SAEs at the same model, site, budget and L0; `None` where the cell's L0 lies outside the
/// range that was measured of the class.
pub(super) fn at_equal_l0(analysis: &Analysis<'_>, cell: &Cell, against: &Class, turned: Turned) -> Option<Score> {
    at_equal(analysis, &analysis.path(&cell.model, &cell.site, cell.budget, against), cell, turned, Given::L0)
}

fn contrast<'a>(analysis: &Analysis<'_>, cell: &'a Cell, against: &Class) -> Contrast<'a> {
    let path = analysis.path(&cell.model, &cell.site, cell.budget, against);
    let same_k = path.iter().find(|other| other.setting.k.is_some() && other.setting.k == cell.setting.k);
    let differences = |turned: Turned| Differences {
        at_l0: at_equal_l0(analysis, cell, against, turned),
        at_k: same_k.map(|other| analysis.difference(other, cell, turned.0)),
    };
    // Not turned: the table says by how much each metric is higher.
    let plain = |name| differences((on_all(name), 1.0));
    Contrast {
        cell,
        against: against.clone(),
        l0: analysis.score(cell, on_all("l0")),
        r2: differences(r2()),
        ce_rec: plain("ce_rec_pooled"),
        kl: plain("kl"),
    }
}
