//! Whether the classes of a dataset are those of a model: an accuracy over other classes says nothing, and must not look as
//! if it did.

use dyadic_data::Images;

use crate::output::style::safe;

/// Names that are shown of each side.
const SHOWN: usize = 3;

/// What is to be said of a dataset whose classes are not the model's.
pub(super) fn remarks(model: &[String], dataset: &[String], images: &Images, outputs: usize) -> Vec<String> {
    let labels = (0..images.len()).filter_map(|index| images.label(index));
    let beyond = labels.filter(|&label| label as usize >= outputs).count();
    let mut remarks = Vec::new();
    if beyond > 0 {
        remarks.push(format!(
            "{beyond} of {} images have labels that the model has no output for ({outputs} outputs): none of them can be right",
            images.len()
        ));
    }
    remarks.extend(other_names(model, dataset));
    remarks
}

/// Names that differ at some label, where both sides have names that are more than numbers.
fn other_names(model: &[String], dataset: &[String]) -> Option<String> {
    let named = |names: &[String]| names.iter().any(|name| name.parse::<u32>().is_err());
    if !named(model) || !named(dataset) || dataset.iter().zip(model).all(|(a, b)| a == b) {
        return None;
    }
    let some = |names: &[String]| {
        let shown: Vec<String> = names.iter().take(SHOWN).map(|name| safe(name)).collect();
        format!("{}{}", shown.join(", "), if names.len() > SHOWN { ", …" } else { "" })
    };
    Some(format!(
        "the model's classes are {}; the dataset's are {}: the accuracy compares their numbers only",
        some(model),
        some(dataset)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn other_classes_are_told_and_the_same_ones_are_not() {
        let (model, same) = (names(&["cat", "dog", "2"]), names(&["cat", "dog"]));
        assert_eq!(other_names(&model, &same), None);
        assert_eq!(other_names(&model, &[]), None);
        assert_eq!(other_names(&names(&["0", "1"]), &same), None);
        let told = other_names(&model, &names(&["apple", "pear", "plum", "fig"])).unwrap();
        assert!(told.contains("cat, dog, 2") && told.contains("apple, pear, plum, …"), "{told}");
    }
}
