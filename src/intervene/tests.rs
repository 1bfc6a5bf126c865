//! The grammar, what it refuses and why, and what a plan means for a model of three layers.

use super::address::*;
use super::check::DictionaryShape;
use super::parse;
use super::plan::*;
use super::position::{PositionSet, Prompt};
use super::receipt::{Receipt, Touched};
use super::slice::{SiteSlice, site_name};
use crate::error::Hint;
use crate::model::site::Site;
use crate::model::spec::{Branch, Layer, Spec};
use indexmap::IndexMap;
use proptest::prelude::*;

fn spec() -> Spec {
    Spec::gpt2(3, 4, 16, 50, 12)
}

/// Text that is already in its shortest form prints back unchanged.
#[track_caller]
fn same(text: &str) -> Edit {
    let edit = parse::edit(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(edit.to_string(), text);
    edit
}

#[track_caller]
fn becomes(text: &str, printed: &str) {
    assert_eq!(parse::plan(text).unwrap_or_else(|error| panic!("{error}")).to_string(), printed);
}

#[track_caller]
fn refused(text: &str, message: &str, hint: &str) {
    let error = parse::plan(text).expect_err(text);
    assert_eq!((error.to_string().as_str(), error.hint().as_deref().unwrap_or("")), (message, hint));
}

#[track_caller]
fn invalid(text: &str, message: &str, hint: &str) {
    let error = parse::plan(text).expect(text).validate(&spec()).expect_err(text);
    assert_eq!((error.to_string().as_str(), error.hint().as_deref().unwrap_or("")), (message, hint));
}

#[test]
fn every_site_position_and_verb_reads_and_prints() {
    for site in [
        "emb",
        "final",
        "L5",
        "L5.in",
        "L5.mid",
        "L5.attn",
        "L5.mlp",
        "L5.H3",
        "L5.H3.q",
        "L5.H3.k",
        "L5.H3.v",
        "L5.H3.z",
        "L5.H3.pattern",
        "L5.N123",
        "L5.N123.pre",
        "L4..9",
        "L*",
        "L*.H*",
        "L{0,3..5}.H{3,0}.z",
        "L*.N*",
        "L0.N7..9.pre",
        "L5.sae(g).F42",
        "L5.mlp.sae(\"a b\").F{3,8..9}",
    ] {
        same(&format!("{site} = zero"));
        same(&format!("emb = from {site}"));
    }
    for position in [
        "-1",
        "3",
        "3..6",
        "-3..-1",
        "2..-2",
        "{0,-1}",
        "\"Paris\"",
        "\"a \\\"b\\\\\"",
        "S2",
        "here.capital",
        "all",
        "prompt",
        "gen",
    ] {
        same(&format!("L5:{position} = zero"));
        same(&format!("L5 = from L4:{position}@corrupt"));
    }
    for verb in
        ["zero", "mean", "set -1.5", "set centre", "scale 0.25", "add 4*refusal", "project 0*\"dir/v 1\"", "from L0"]
    {
        same(&format!("L5 = {verb}"));
    }
}

#[test]
fn edits_mean_what_they_say() {
    let edit = same("L4..6.H{0,3}.q:-1 = from L5:S2@\"other prompt\"");
    let span = |first, last| Span { first, last };
    let heads = Numbers::Spans(vec![span(0, 0), span(3, 3)]);
    assert_eq!(edit.target.place, Place::Layers(Numbers::Spans(vec![span(4, 6)]), Part::Head(heads, HeadPart::Query)));
    assert_eq!(edit.target.position, Some(Position::last()));
    let address = Address {
        place: Place::Layers(Numbers::one(5), Part::Whole(Whole::Out)),
        position: Some(Position::Name("S2".into())),
    };
    assert_eq!(edit.verb, Verb::From(Source { address, prompt: Some("other prompt".into()) }));
    assert_eq!(same("L1 = add -2*v").verb, Verb::Add(-2.0, "v".into()));
    assert_eq!(parse::address("L3.N4.pre:all").map(|address| address.to_string()).as_deref(), Ok("L3.N4.pre:all"));
}

#[test]
fn spaces_separators_and_comments_are_free() {
    becomes("", "");
    becomes(
        "L5=zero;  L6 =  scale 2 # louder\n\n# nothing\nL{ 1 , 2 } = add v;",
        "L5 = zero\nL6 = scale 2\nL{1,2} = add 1*v",
    );
    becomes("L5 = add 4 * v\r\nL6 = project 1e-3*v", "L5 = add 4*v\nL6 = project 0.001*v");
    becomes("L5:\"a;#=b\" = zero", "L5:\"a;#=b\" = zero");
}

#[test]
fn errors_point_and_advise() {
    let part = "did you mean `mlp`?";
    refused("L5.mpl = zero", "a layer has no part `mpl`\n  L5.mpl = zero\n     ^^^", part);
    refused("L5.h3 = zero", "a layer has no part `h3`\n  L5.h3 = zero\n     ^^", "did you mean `H3`?");
    refused(
        "L5.resid_pre = zero",
        "a layer has no part `resid_pre`\n  L5.resid_pre = zero\n     ^^^^^^^^^",
        "did you mean `in`?",
    );
    refused("l5 = zero", "`l5` is not a site\n  l5 = zero\n  ^^", "did you mean `L5`?");
    refused("embed = zero", "`embed` is not a site\n  embed = zero\n  ^^^^^", "did you mean `emb`?");
    refused("L5.H3.Q = zero", "a head has no part `Q`\n  L5.H3.Q = zero\n        ^", "did you mean `q`?");
    refused(
        "L5.N3.post = zero",
        "a neuron has no part `post`\n  L5.N3.post = zero\n        ^^^^",
        "`.pre` is the neuron before its non-linearity; without it, after",
    );
    let features = "features are written `L5.sae(name).F42`, with the name that the dictionary was given";
    refused("L5.sae = zero", "expected `(` and the name of a dictionary\n  L5.sae = zero\n        ^", features);
    refused("L5.sae() = zero", "expected the name of a dictionary\n  L5.sae() = zero\n         ^", features);
    refused(
        "L5.sae(g).42 = zero",
        "expected `).F` and the number of a feature\n  L5.sae(g).42 = zero\n            ^^",
        features,
    );
    refused(
        "L5.sae(g).F0..99999999999 = zero",
        "no dictionary has so many features\n  L5.sae(g).F0..99999999999 = zero\n             ^^^^^^^^^^^^^^",
        "",
    );
    refused(
        "L5.sae(g).F* = zero",
        "features are named by their numbers\n  L5.sae(g).F* = zero\n             ^",
        "for example `F42`, `F{3,8}` or `F0..15`",
    );
    refused("L5 = sclae 2", "`sclae` is not a verb\n  L5 = sclae 2\n       ^^^^^", "did you mean `scale`?");
    refused("L5 = patch L4", "`patch` is not a verb\n  L5 = patch L4\n       ^^^^^", "did you mean `from`?");
    refused("L5 = scale a", "expected a number\n  L5 = scale a\n             ^", "for example `scale 0.5`");
    refused(
        "L5 = project v",
        "expected a number and a vector\n  L5 = project v\n               ^",
        "for example `project 0*refusal`; 0 removes the direction, 1 changes nothing",
    );
    refused(
        "L5 = add 4",
        "expected `*` and the name of a vector\n  L5 = add 4\n            ^",
        "a number times a vector, for example `4*refusal`",
    );
    let example = "an edit is written SITE = VERB, for example `L5.H3:-1 = scale 0`";
    refused("L5:-1", "expected `=` and a verb\n  L5:-1\n       ^", example);
    refused(
        "L5..= = zero",
        "expected a number\n  L5..= = zero\n      ^",
        "a range names both its ends and includes them: 4..9",
    );
    refused("L9..4 = zero", "the range ends before it begins\n  L9..4 = zero\n   ^^^^", "did you mean 4..9?");
    refused(
        "L4-9 = zero",
        "a range is not written with `-`\n  L4-9 = zero\n    ^",
        "a range names both its ends and includes them: 4..9",
    );
    refused("L0.H{1,0..3} = zero", "head named twice\n  L0.H{1,0..3} = zero\n         ^^^^", "");
    refused("L5:\"Paris = zero", "the quotation is not closed\n  L5:\"Paris = zero\n     ^", "end it with `\"`");
    refused(
        "L5:new = zero",
        "the position `new` is not available yet\n  L5:new = zero\n     ^^^",
        "`:gen` is every position that produces a generated token",
    );
    refused(
        "L5 = zero L6",
        "the edit should end here\n  L5 = zero L6\n            ^^",
        "separate edits with `;` or a new line",
    );
    refused("L5 = zero\nL5:\"é\".q = zero", "line 2: expected `=` and a verb\n  L5:\"é\".q = zero\n        ^", example);
    refused(
        "L99999999999999999999 = zero",
        "this is not the number of a layer\n  L99999999999999999999 = zero\n   ^^^^^^^^^^^^^^^^^^^^",
        "",
    );
}

#[test]
fn plans_name_the_nearest_site_when_the_model_lacks_one() {
    invalid(
        "L12.mlp = zero",
        "`L12.mlp = zero`: the model has no layer 12, its layers are 0 to 2",
        "the nearest site is `L2.mlp`",
    );
    invalid(
        "L1.H9.q = zero",
        "`L1.H9.q = zero`: the model has no head 9, its heads are 0 to 3",
        "the nearest site is `L1.H3.q`",
    );
    invalid(
        "L1.N64 = zero",
        "`L1.N64 = zero`: the model has no neuron 64, its neurons are 0 to 63",
        "the nearest site is `L1.N63`",
    );
    invalid(
        "L7.H7 = zero",
        "`L7.H7 = zero`: the model has no layer 7, its layers are 0 to 2",
        "the nearest site is `L2.H3`",
    );
    invalid(
        "L0 = from L0..9",
        "`L0 = from L0..9`: the model has no layer 9, its layers are 0 to 2",
        "the nearest site is `L2`",
    );
    invalid(
        "L0.H0.pattern = project 0*v",
        "`L0.H0.pattern = project 0*v`: a pattern holds one probability per key and takes only zero, set, scale and from another pattern",
        "to change what a head reads, edit its `.q`, `.k` or `.v`",
    );
    let widths = "copy between sites of one width: the residual stream with what is added to it, q, k, v and z with each other, \
                  as many neurons as neurons, a pattern with a pattern";
    invalid(
        "L0 = from L0.H0.z",
        "`L0 = from L0.H0.z`: the target takes 16 values and the source holds 4 values",
        widths,
    );
    invalid("L0.N3 = from L0", "`L0.N3 = from L0`: the target takes 1 value and the source holds 16 values", widths);
    let heads = "name as many heads in the source as in the target, or one for all";
    invalid("L0.H* = from L1.H0..1", "`L0.H* = from L1.H0..1`: 2 heads cannot pair with 4 heads", heads);
    let layers = "name as many layers in the source as in the target, or one for all";
    invalid("L0 = from L0..1", "`L0 = from L0..1`: 2 layers cannot pair with 1 layer", layers);
    for fine in [
        "L*.H* = from L2.H1",
        "L{0,1}.H0..1 = from L{2,0}.H2..3",
        "L*.N3..4 = from L0.N{9,1}.pre",
        "L1 = from L0.attn",
        "emb = from final",
    ] {
        assert_eq!(parse::plan(fine).expect(fine).validate(&spec()), Ok(()));
    }
}

#[test]
fn vectors_must_be_given_and_fit() {
    let lengths: IndexMap<String, usize> =
        [("refusal".to_string(), 16), ("key".to_string(), 4), ("all".to_string(), 64)].into();
    let check = |text: &str| parse::plan(text).expect(text).check_vectors(&spec(), &lengths);
    for fine in
        ["L* = add 4*refusal", "L0.H* = add 1*refusal", "L0.H0.k = set key", "L1.N* = project 0*all", "L1 = zero"]
    {
        assert_eq!(check(fine), Ok(()));
    }
    let error = check("L1 = add 4*refusl").expect_err("unknown");
    assert_eq!(error.to_string(), "`L1 = add 4*refusl`: there is no vector `refusl`");
    assert_eq!(error.hint().as_deref(), Some("did you mean `refusal`?"));
    let error = check("L1 = add 4*key").expect_err("length");
    assert_eq!(error.to_string(), "`L1 = add 4*key`: the vector `key` has length 4 and the site takes 16 values");
}

#[test]
fn dictionaries_must_be_given_and_fit() {
    let shape = |site, width| DictionaryShape { site, features: 32, width };
    let known: IndexMap<String, DictionaryShape> = [
        ("g".to_string(), shape(Some(Site::BlockOut(Layer(1))), 16)),
        ("anywhere".to_string(), shape(None, 16)),
        ("wide".to_string(), shape(None, 17)),
    ]
    .into();
    let check = |text: &str| {
        let found = parse::plan(text).expect(text).check_dictionaries(&spec(), &known);
        found.map_err(|error| (error.to_string(), error.hint().unwrap_or_default()))
    };
    for fine in ["L1.sae(g).F{31,0} = set 3", "L0.mlp.sae(anywhere).F0 = from L1.sae(g).F3", "L1 = zero"] {
        assert_eq!(check(fine), Ok(()));
    }
    let refused = |text: &str, message: &str, hint: &str| {
        assert_eq!(check(text), Err((format!("`{text}`: {message}"), hint.to_string())));
    };
    let given = "the dictionaries given are g, anywhere, wide";
    refused("L1.sae(other).F0 = zero", "there is no dictionary `other`", given);
    refused("L2.sae(g).F0 = zero", "the dictionary `g` is of `L1`", "write `L1.sae(g).F0`");
    refused("L0.N0 = from L1.mlp.sae(g).F0", "the dictionary `g` is of `L1`", "write `L1.sae(g).F0`");
    refused(
        "L1.sae(g).F0..32 = zero",
        "the model has no feature 32, its features are 0 to 31",
        "the nearest site is `L1.sae(g).F31`",
    );
    refused(
        "L1.sae(wide).F0 = zero",
        "the dictionary `wide` reads vectors of length 17 and the site has 16 values",
        "a dictionary belongs to the model that it was trained on",
    );
    let plan = parse::plan("L1.sae(g).F0 = from L0.sae(anywhere).F1; L2.sae(g).F4 = zero").expect("a plan");
    assert_eq!(plan.dictionaries(), ["anywhere", "g"]);
    invalid(
        "L9.sae(g).F0 = zero",
        "`L9.sae(g).F0 = zero`: the model has no layer 9, its layers are 0 to 2",
        "the nearest site is `L2.sae(g).F0`",
    );
    invalid(
        "L1.sae(g).F0 = mean",
        "`L1.sae(g).F0 = mean`: features have no mean of their own",
        "say a number: `set 0`",
    );
}

#[test]
fn places_become_sites_and_sites_print_as_places() {
    let names = |text: &str| -> Vec<String> {
        let slices = parse::address(text).expect(text).place.slices(&spec()).expect(text);
        slices.iter().map(SiteSlice::to_string).collect()
    };
    assert_eq!(names("L*.H{3,0,1}.q"), ["L0.H{3,0..1}.q", "L1.H{3,0..1}.q", "L2.H{3,0..1}.q"]);
    assert_eq!(names("L{2,0}.mlp"), ["L2.mlp", "L0.mlp"]);
    assert_eq!(names("L1.N*.pre"), ["L1.N0..63.pre"]);
    let site = |text: &str| parse::address(text).expect(text).place.slices(&spec()).expect(text)[0].site;
    let one = Layer(1);
    for (text, expected) in [
        ("emb", Site::TokenEmbedding),
        ("final", Site::FinalIn),
        ("L1", Site::BlockOut(one)),
        ("L1.in", Site::BlockIn(one)),
        ("L1.mid", Site::Mid(one)),
        ("L1.attn", Site::AttentionOut(one)),
        ("L1.mlp", Site::MlpOut(one)),
        ("L1.H*", Site::HeadOut(one)),
        ("L1.H*.q", Site::Projection(one, Branch::Query)),
        ("L1.H*.k", Site::Projection(one, Branch::Key)),
        ("L1.H*.v", Site::Projection(one, Branch::Value)),
        ("L1.H*.z", Site::Z(one)),
        ("L1.H*.pattern", Site::Pattern(one)),
        ("L1.N*", Site::MlpPost(one)),
        ("L1.N*.pre", Site::MlpPre(one)),
    ] {
        assert_eq!((site(text), site_name(expected).as_str()), (expected, text));
    }
}

#[test]
fn sources_are_listed_by_prompt() {
    let plan: Plan =
        "L2 = from L0..0; L1.H1.q = from L0.H2.k@other; L2:-1 = from L0; L0 = zero".parse().expect("a plan");
    let sources = plan.sources(&spec()).expect("sources");
    assert_eq!(sources[&None], [Site::BlockOut(Layer(0))]);
    assert_eq!(sources[&Some("other".to_string())], [Site::Projection(Layer(0), Branch::Key)]);
    assert_eq!((plan.prompts(), plan.vectors()), (vec!["other"], vec![]));
}

fn paris() -> Prompt {
    // <bos> |The| capital| of| Paris| is| Par|is|
    Prompt {
        tokens: 8,
        text: "The capital of Paris is Paris".into(),
        offsets: vec![(0, 0), (0, 3), (3, 11), (11, 14), (14, 20), (20, 23), (23, 27), (27, 29)],
        names: [("S1".to_string(), 1..3)].into(),
    }
}

#[test]
fn positions_resolve_against_a_prompt() {
    let resolve = |text: &str| {
        let address = parse::address(&format!("L0:{text}")).expect(text);
        paris()
            .resolve(&address.position.expect(text))
            .map_err(|error| (error.to_string(), error.hint().unwrap_or_default()))
    };
    let listed = |positions: &[usize]| Ok(PositionSet::Listed(positions.to_vec()));
    assert_eq!(resolve("-1"), listed(&[7]));
    assert_eq!(resolve("{5,-8,2..3}"), listed(&[5, 0, 2, 3]));
    assert_eq!(resolve("-3..-1"), listed(&[5, 6, 7]));
    assert_eq!(resolve("S1"), listed(&[1, 2]));
    assert_eq!(resolve("prompt"), listed(&[0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!((resolve("all"), resolve("gen")), (Ok(PositionSet::From(0)), Ok(PositionSet::From(7))));
    assert_eq!(resolve("\"capital of\""), listed(&[2, 3]));
    assert_eq!(resolve("\"is Par\""), listed(&[5, 6]));
    let refused = |text: &str| resolve(text).expect_err(text);
    let ambiguous = "say which by number: `:4` or `:6..7`; or all of them: `:{4,6..7}`";
    assert_eq!(refused("\"Paris\""), ("the text \"Paris\" occurs 2 times in the prompt".into(), ambiguous.into()));
    assert_eq!(refused("\"Rome\"").0, "the text \"Rome\" does not occur in \"The capital of Paris is Paris\"");
    assert_eq!(
        refused("8"),
        (
            "position 8 is outside the prompt of 8 tokens".into(),
            "the positions are 0 to 7, or -8 to -1 from the end".into()
        )
    );
    assert_eq!(refused("-9").0, "position -9 is outside the prompt of 8 tokens");
    assert_eq!(refused("S2"), ("there is no position named `S2`".into(), "did you mean `:S1`?".into()));
    assert_eq!(refused("{0,-8}").0, "positions `{0,-8}` name token 0 twice");
    assert_eq!(refused("5..-5").0, "positions `5..-5` name no token of a prompt of 8 tokens");
}

#[test]
fn positions_keep_their_order_in_a_pass() {
    let set = PositionSet::Listed(vec![5, 1, 3]);
    assert_eq!((set.within(&(2..6)), set.nth(1), set.outside(&(2..6))), (vec![(0, 5), (2, 3)], Some(1), Some(1)));
    let set = PositionSet::From(3);
    assert_eq!(
        (set.within(&(2..6)), set.nth(2), set.outside(&(4..6))),
        (vec![(0, 3), (1, 4), (2, 5)], Some(5), Some(3))
    );
}

#[test]
fn receipts_read_as_lines() {
    let touched = Touched {
        action: "L0.H1:{0,2..3} = zero".into(),
        site: "L0.H1".into(),
        positions: vec![0, 2, 3],
        values: 48,
        changed: 48,
        l2_change: 1.5,
        max_change: 0.25,
    };
    let unchanged =
        Touched { changed: 0, action: "L0 = scale 1".into(), site: "L0".into(), positions: vec![4], ..touched.clone() };
    assert_eq!(
        Receipt { entries: vec![touched, unchanged] }.to_string(),
        "L0.H1:{0,2..3} = zero: L0.H1 at {0,2..3}, 48 values, 48 changed by 1.5000 in all and at most 0.2500\n\
         L0 = scale 1: L0 at 4, 48 values, 0 changed"
    );
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let spans = prop::collection::vec((0..3usize, 1..4usize), 1..4).prop_map(|steps| {
        let mut next = 0;
        let spans = steps.into_iter().map(|(length, gap)| {
            let first = next + gap;
            next = first + length;
            Span { first, last: next }
        });
        Numbers::Spans(spans.collect())
    });
    prop_oneof![Just(Numbers::All), (0..100usize).prop_map(Numbers::one), spans]
}

fn part() -> impl Strategy<Value = Part> {
    use HeadPart::*;
    let head = prop::sample::select(vec![Out, Query, Key, Value, Z, Pattern]);
    let neuron = prop::sample::select(vec![NeuronPart::Post, NeuronPart::Pre]);
    let whole = prop::sample::select(vec![Whole::Out, Whole::In, Whole::Mid, Whole::Attention, Whole::Mlp]);
    let named = numbers().prop_filter("by their numbers", |numbers| *numbers != Numbers::All);
    prop_oneof![
        whole.clone().prop_map(Part::Whole),
        (whole, ".{1,5}", named).prop_map(|(whole, dictionary, features)| Part::Feature(whole, dictionary, features)),
        (numbers(), head).prop_map(|(heads, part)| Part::Head(heads, part)),
        (numbers(), neuron).prop_map(|(neurons, part)| Part::Neuron(neurons, part)),
    ]
}

fn position() -> impl Strategy<Value = Position> {
    let span = |first, last| Position::Spans(vec![Span { first, last }]);
    let name = "[A-Za-z_][A-Za-z0-9_]{0,5}([.-][a-z0-9]{1,3})?";
    let free = |name: &String| !Position::KEYWORDS.contains(&name.as_str()) && name != "new" && name != "tip";
    prop_oneof![
        prop::sample::select(vec![Position::All, Position::Prompt, Position::Generated]),
        (-50..50i64).prop_map(move |index| span(index, index)),
        (0..50i64, -50..0i64).prop_map(move |(first, last)| span(first, last)),
        (0..50i64, 1..9i64).prop_map(move |(first, more)| span(first, first + more)),
        (0..50i64, -50..0i64)
            .prop_map(|(a, b)| Position::Spans(vec![Span { first: a, last: a }, Span { first: b, last: b }])),
        any::<String>().prop_filter("empty", |text| !text.is_empty()).prop_map(Position::Text),
        name.prop_filter("reserved", free).prop_map(Position::Name),
    ]
}

fn address() -> impl Strategy<Value = Address> {
    let layers = (numbers(), part()).prop_map(|(layers, part)| Place::Layers(layers, part));
    let place = prop_oneof![Just(Place::Embedding), Just(Place::Final), layers];
    (place, prop::option::of(position())).prop_map(|(place, position)| Address { place, position })
}

fn verb() -> impl Strategy<Value = Verb> {
    let number = || any::<f64>().prop_filter("finite", |number| number.is_finite());
    let name = || any::<String>().prop_filter("empty", |text| !text.is_empty());
    prop_oneof![
        Just(Verb::Zero),
        Just(Verb::Mean),
        number().prop_map(|number| Verb::Set(Value::Number(number))),
        name().prop_map(|name| Verb::Set(Value::Vector(name))),
        number().prop_map(Verb::Scale),
        (number(), name()).prop_map(|(factor, name)| Verb::Add(factor, name)),
        (number(), name()).prop_map(|(factor, name)| Verb::Project(factor, name)),
        (address(), prop::option::of(name())).prop_map(|(address, prompt)| Verb::From(Source { address, prompt })),
    ]
}

proptest! {
    #[test]
    fn plans_round_trip_as_text_and_as_json(
        edits in prop::collection::vec((address(), verb()).prop_map(|(target, verb)| Edit { target, verb }), 0..4)
    ) {
        let plan = Plan { edits };
        prop_assert_eq!(&plan.to_string().parse::<Plan>().map_err(|e| TestCaseError::fail(e.to_string()))?, &plan);
        let json = serde_json::to_string(&PlanV1::from(&plan)).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let file: PlanV1 = serde_json::from_str(&json).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(Plan::try_from(&file).map_err(|e| TestCaseError::fail(e.to_string()))?, plan);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "([LHN.*{}0-9:=;#\"\\\\@ a-z-]|\\PC|\n){0,40}") {
        if let Err(error) = parse::plan(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
