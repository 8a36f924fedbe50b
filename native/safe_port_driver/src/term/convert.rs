//! Between our terms and those of `eetf`.

use super::check::{MAX_ATOM_CHARACTERS, MAX_DEPTH};
use super::{Term, TermError};

/// A term that drivers only pass on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque(eetf::Term);

impl From<eetf::Term> for Term {
    fn from(term: eetf::Term) -> Term {
        match term {
            eetf::Term::Atom(atom) => Term::Atom(atom.name),
            eetf::Term::FixInteger(integer) => Term::Int(integer.value.into()),
            eetf::Term::BigInteger(integer) => match i128::try_from(&integer.value) {
                Ok(value) => Term::Int(value),
                Err(_) => Term::Opaque(Opaque(eetf::Term::BigInteger(integer))),
            },
            eetf::Term::Float(float) => Term::Float(float.value),
            eetf::Term::Binary(binary) => Term::Binary(binary.bytes),
            // Lists of bytes come packed.
            eetf::Term::ByteList(list) => Term::List(list.bytes.into_iter().map(Term::from).collect()),
            eetf::Term::List(list) => Term::List(terms(list.elements)),
            eetf::Term::ImproperList(list) => {
                Term::ImproperList(terms(list.elements), Box::new(Term::from(*list.last)))
            }
            eetf::Term::Tuple(tuple) => Term::Tuple(terms(tuple.elements)),
            eetf::Term::Map(map) => {
                Term::Map(map.map.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
            }
            other => Term::Opaque(Opaque(other)),
        }
    }
}

fn terms(items: Vec<eetf::Term>) -> Vec<Term> {
    items.into_iter().map(Term::from).collect()
}

/// The same term for `eetf`, `depth` levels below the whole.
pub(super) fn to_eetf(term: &Term, depth: usize) -> Result<eetf::Term, TermError> {
    if depth > MAX_DEPTH {
        return Err(TermError::new(format!("a term must be nested at most {MAX_DEPTH} levels deep")));
    }
    let items =
        |items: &[Term]| items.iter().map(|item| to_eetf(item, depth + 1)).collect::<Result<Vec<_>, _>>();
    Ok(match term {
        Term::Atom(name) if name.chars().count() > MAX_ATOM_CHARACTERS => {
            return Err(TermError::new(format!(
                "an atom has at most {MAX_ATOM_CHARACTERS} characters, got {}",
                name.chars().count()
            )));
        }
        Term::Atom(name) => eetf::Atom::from(name.as_str()).into(),
        Term::Int(value) => integer(*value),
        Term::Float(value) => eetf::Float::try_from(*value)
            .map_err(|_| TermError::new(format!("a float of Erlang is finite, got {value}")))?
            .into(),
        Term::Binary(bytes) => eetf::Binary { bytes: bytes.clone() }.into(),
        Term::List(list) => eetf::List { elements: items(list)? }.into(),
        Term::ImproperList(head, end) if head.is_empty() => to_eetf(end, depth)?,
        Term::ImproperList(head, end) => {
            eetf::ImproperList { elements: items(head)?, last: Box::new(to_eetf(end, depth + 1)?) }.into()
        }
        Term::Tuple(tuple) => eetf::Tuple { elements: items(tuple)? }.into(),
        Term::Map(pairs) => {
            let pair =
                |(key, value): &(Term, Term)| Ok((to_eetf(key, depth + 1)?, to_eetf(value, depth + 1)?));
            eetf::Map { map: pairs.iter().map(pair).collect::<Result<_, TermError>>()? }.into()
        }
        Term::Opaque(Opaque(term)) => term.clone(),
    })
}

fn integer(value: i128) -> eetf::Term {
    match i32::try_from(value) {
        // eetf 0.12 packs a list of integers below 256 as bytes and takes the negative ones for such too. As "big"
        // integers, which the VM reads as well, they are spared that.
        Ok(value) if value >= 0 => eetf::FixInteger { value }.into(),
        _ => eetf::BigInteger { value: value.into() }.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Term, MAX_DEPTH};

    fn round_trip(term: &Term) -> Term {
        Term::decode(&term.encode().unwrap()).unwrap()
    }

    #[test]
    fn every_kind_that_can_be_built_reads_back_the_same() {
        let term = Term::tuple([
            Term::atom("ok"),
            Term::from(u64::MAX),
            Term::from(i128::MIN),
            Term::from(1.5),
            Term::from("text"),
            Term::from(true),
            Term::list([Term::atom("a"), Term::list([])]),
            Term::map([(Term::atom("key"), Term::binary([0, 255]))]),
            Term::ImproperList(vec![Term::from(1)], Box::new(Term::from(2))),
        ]);
        assert_eq!(round_trip(&term), term);
        assert_eq!(term.as_tuple().unwrap()[7].get(&Term::atom("key")), Some(&Term::binary([0, 255])));
    }

    #[test]
    fn a_list_of_negative_integers_is_not_taken_for_a_charlist() {
        for values in [vec![-1, 5], vec![-1], vec![1, 255], vec![256, 0], vec![i32::MIN]] {
            let term = Term::list(values.into_iter().map(Term::from));
            assert_eq!(round_trip(&term), term);
        }
    }

    #[test]
    fn a_list_of_bytes_may_be_longer_than_its_packed_form_allows() {
        let term = Term::list((0..70_000).map(|_| Term::from(7)));
        assert_eq!(round_trip(&term), term);
    }

    #[test]
    fn what_a_driver_cannot_read_passes_through_unchanged() {
        // <<3:5>>, a pid, and 1 bsl 200.
        let bitstring = vec![131, 77, 0, 0, 0, 1, 5, 24];
        let pid = vec![131, 88, 119, 1, b'n', 0, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1];
        let mut huge = vec![131, 110, 26, 0];
        huge.extend([0; 25]);
        huge.push(1);
        for bytes in [bitstring, pid, huge] {
            let term = Term::decode(&bytes).unwrap();
            assert!(matches!(term, Term::Opaque(_)), "{term:?}");
            assert_eq!(term.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn what_erlang_does_not_have_is_refused() {
        assert!(Term::from(f64::NAN).encode().is_err());
        assert!(Term::from(f64::INFINITY).encode().is_err());
        assert!(Term::atom("a".repeat(256)).encode().is_err());
        assert_eq!(round_trip(&Term::atom("ä".repeat(255))), Term::atom("ä".repeat(255)));
    }

    #[test]
    fn a_term_nested_too_deep_is_refused_both_ways() {
        let nest = |depth: usize| (0..depth).fold(Term::list([]), |term, _| Term::tuple([term]));
        assert_eq!(round_trip(&nest(MAX_DEPTH)), nest(MAX_DEPTH));
        assert!(nest(MAX_DEPTH + 1).encode().is_err());
        let mut bytes = vec![131];
        bytes.extend([104, 1].repeat(1_000_000));
        bytes.push(106);
        assert!(Term::decode(&bytes).is_err());
    }
}
