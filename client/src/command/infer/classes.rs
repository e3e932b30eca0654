//! Whether the classes of a dataset are those of a model: an accuracy over other classes says nothing, and must not look as
//! if it did.

use dyadic_data::Images;

use crate::output::style::safe;

/// Names that are shown of each side.
const SHOWN: usize = 3;

/// Which of the model's outputs is right for a dataset's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Matching {
    /// The output of the label's number.
    ByNumber,
    /// The output of the class's name, by label.
    ByName(Vec<u32>),
}

impl Matching {
    /// By number where the names agree, or one side has none that are more than numbers, or it is asked for; by name where
    /// the model has all of the dataset's classes in other places. Numbers that are only the order of folders (`ordered` is
    /// false) are compared only if that is asked for.
    ///
    /// # Errors
    /// The dataset's classes that the model does not have, or that the model has no names where names alone would do.
    pub(super) fn of(
        model: &[String],
        dataset: &[String],
        ordered: bool,
        by_number: bool,
    ) -> Result<Self, String> {
        let agree = dataset.len() <= model.len() && dataset.iter().zip(model).all(|(a, b)| a == b);
        if !by_number && !agree && !ordered && named(dataset) && !named(model) {
            return Err(format!(
                "the model has no names for its outputs, and the order of the class folders ({}) says nothing of it",
                some(dataset)
            ));
        }
        if by_number || agree || !named(model) || !named(dataset) {
            return Ok(Self::ByNumber);
        }
        let places: Vec<Option<u32>> = dataset
            .iter()
            .map(|name| model.iter().position(|class| class == name).and_then(|place| place.try_into().ok()))
            .collect();
        let missing = dataset.iter().zip(&places).filter(|(_, place)| place.is_none());
        let missing: Vec<String> = missing.map(|(name, _)| name.clone()).collect();
        if missing.is_empty() {
            return Ok(Self::ByName(places.into_iter().flatten().collect()));
        }
        Err(format!(
            "the dataset's classes are not the model's: it has no {} (its classes are {})",
            some(&missing),
            some(model)
        ))
    }

    /// The output that is right for a label.
    pub(super) fn output(&self, label: u32) -> Option<u32> {
        match self {
            Self::ByNumber => Some(label),
            Self::ByName(places) => places.get(label as usize).copied(),
        }
    }

    /// What is to be said beside an accuracy over these images.
    pub(super) fn remarks(
        &self,
        model: &[String],
        dataset: &[String],
        images: &Images,
        outputs: usize,
    ) -> Vec<String> {
        let labels = (0..images.len()).filter_map(|index| images.label(index));
        let right = labels.map(|label| self.output(label));
        let beyond = right.filter(|right| right.is_none_or(|output| output as usize >= outputs)).count();
        let mut remarks = Vec::new();
        if beyond > 0 {
            remarks.push(format!(
                "{beyond} of {} images have labels that the model has no output for ({outputs} outputs): none of them can be right",
                images.len()
            ));
        }
        match self {
            Self::ByName(_) => {
                remarks.push(
                    "the dataset's classes have other numbers than the model's: matched by name".into(),
                );
            }
            Self::ByNumber
                if named(model) && named(dataset) && dataset.iter().zip(model).any(|(a, b)| a != b) =>
            {
                remarks.push(format!(
                    "the model's classes are {}; the dataset's are {}: the accuracy compares their numbers only",
                    some(model),
                    some(dataset)
                ));
            }
            Self::ByNumber => {}
        }
        remarks
    }
}

/// Whether these are more than numbers.
fn named(names: &[String]) -> bool {
    names.iter().any(|name| name.parse::<u32>().is_err())
}

/// The first few, for people.
fn some(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| safe(name)).collect();
    format!("{}{}", shown.join(", "), if names.len() > SHOWN { ", …" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn classes_are_matched_by_number_where_nothing_speaks_against_it() {
        let model = names(&["cat", "dog", "2"]);
        for dataset in [&["cat", "dog"][..], &[], &["0", "1", "2", "3"]] {
            assert_eq!(
                Matching::of(&model, &names(dataset), true, false),
                Ok(Matching::ByNumber),
                "{dataset:?}"
            );
        }
        assert_eq!(Matching::of(&names(&["0", "1"]), &model, true, false), Ok(Matching::ByNumber));
        let folders = Matching::of(&[], &names(&["apple", "pear"]), false, false).unwrap_err();
        assert!(folders.contains("apple, pear") && folders.contains("says nothing"), "{folders}");
        let asked = Matching::of(&[], &names(&["apple", "pear"]), false, true);
        assert_eq!(asked, Ok(Matching::ByNumber), "as asked");
        assert_eq!(Matching::of(&model, &names(&["apple"]), true, true), Ok(Matching::ByNumber), "as asked");
    }

    #[test]
    fn the_same_classes_in_another_order_are_matched_by_name() {
        let model = names(&["cat", "dog", "bird"]);
        let matching = Matching::of(&model, &names(&["bird", "cat"]), false, false).unwrap();
        assert_eq!(matching, Matching::ByName(vec![2, 0]));
        assert_eq!((matching.output(0), matching.output(1), matching.output(2)), (Some(2), Some(0), None));
        let remarks = matching.remarks(&model, &names(&["bird", "cat"]), &Images::default(), 3);
        assert!(remarks.len() == 1 && remarks[0].contains("by name"), "{remarks:?}");
    }

    #[test]
    fn classes_that_the_model_does_not_have_are_named() {
        let model = names(&["cat", "dog"]);
        let told =
            Matching::of(&model, &names(&["cat", "apple", "pear", "plum", "fig"]), false, false).unwrap_err();
        assert!(told.contains("no apple, pear, plum, …") && told.contains("cat, dog"), "{told}");
        let asked = Matching::of(&model, &names(&["apple"]), true, true).unwrap();
        let remarks = asked.remarks(&model, &names(&["apple"]), &Images::default(), 2);
        assert!(remarks[0].contains("compares their numbers only"), "{remarks:?}");
    }
}
