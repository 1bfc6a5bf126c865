//! The task layer as its users meet it: mistakes with their places, expansion, data files, tokens, the command line.

use indexmap::IndexSet;
use penjing::dataset::{self, Bos, Dataset};
use penjing::error::Hint;
use penjing::model::spec::Spec;
use penjing::task::{self, Capacity, Expansion, PromptPair, Split, Task, TaskError, capacity, expand};
use penjing::tokenizer::Tokenizer;
use proptest::prelude::*;
use serde_json::json;
use std::path::Path;

const WAVE: &str = r#"schema = 1
name = "wave"
title = "Who is waved at"
[metric]
kind = "logit-difference"
[lists]
name = ["Mary", "John", "Anna", "Tom", "Kate", "James"]
place = ["park", "store"]
[[facts.capital]]
country = "France"
city = "Paris"
[[facts.capital]]
country = "Italy"
city = "Rome"
[slots]
io = { list = "name" }
s = { list = "name", distinct_from = ["io"] }
c = { list = "name", distinct_from = ["io", "s"] }
place = { list = "place" }
here = { facts = "capital" }
there = { facts = "capital", distinct_from = ["here"] }
yy = { range = [2, 97], pad = 2 }
[[frames]]
name = "met"
text = "{io} and {s:S1} met in the {place} and {s:S2} waved at"
[[frames]]
name = "saw"
text = "In the {place} {io} saw {s:S1} and {s:S2} waved at"
[[frames]]
name = "trip"
text = "From {here.country} to the capital"
right = ["{here.city}"]
wrong = ["{there.city}"]
[[corruptions]]
name = "s2-to-io"
replace = { S2 = "{io}" }
frames = ["met", "saw"]
[[corruptions]]
name = "third"
replace = { S2 = "{c}" }
frames = ["met"]
[[corruptions]]
name = "elsewhere"
replace = { here = "{there}" }
frames = ["trip"]
[answer]
right = ["{io}"]
wrong = ["{s}"]
[splits]
by = ["io", "s"]
every = 3
[notes]
gpt2 = "one token each"
"#;

fn read(toml: &str) -> Task {
    task::parse(toml.as_bytes(), "wave.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn ask(split: Split, pairs: usize, seed: u64) -> Expansion {
    Expansion { split, pairs, seed, corruption: None }
}

/// What a user sees: the message, then the hint.
fn shown<T>(result: Result<T, impl Hint>) -> String {
    match result {
        Ok(_) => "no error".into(),
        Err(error) => format!("{error}\nhint: {}\n", error.hint().unwrap_or_default()),
    }
}

/// The message after one change to the task above.
fn mistake(from: &str, to: &str) -> String {
    assert!(WAVE.contains(from), "{from}");
    shown(task::parse(WAVE.replacen(from, to, 1).as_bytes(), "wave.toml"))
}

fn tokenizer() -> Tokenizer {
    let words = "<unk> Mary John Anna Tom Kate James and met in the park store waved at In saw From to capital France \
                 Italy Paris Rome New York";
    let mut vocabulary = serde_json::Map::new();
    for word in words.split(' ') {
        for token in [word.to_owned(), format!(" {word}")] {
            let id = vocabulary.len();
            vocabulary.entry(token).or_insert(json!(id));
        }
    }
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null, "decoder": null,
        "added_tokens": [
            { "id": 100, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }
        ],
        "pre_tokenizer": { "type": "Split", "pattern": { "Regex": " ?[^ ]+" }, "behavior": "Isolated", "invert": false },
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" },
    });
    Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn mistakes_in_the_file_are_shown_with_place_and_hint() {
    let all = [
        mistake("title =", "titel ="),
        mistake("schema = 1", "schema = 2"),
        mistake("schema = 1\n", ""),
        mistake("\"wave\"", "\"Wave one\""),
        mistake("logit-difference", "logit-diference"),
        mistake("[lists]", "[lists"),
        mistake("pad = 2", "pad = \"two\""),
        mistake("place = [\"park\", \"store\"]", "place = []"),
        mistake("\"Tom\"", "\"John\""),
        mistake("city = \"Rome\"", "town = \"Rome\""),
        mistake("city = \"Rome\"\n", ""),
    ];
    insta::assert_snapshot!(all.join("\n"), @r##"
    unknown key `titel`
     --> wave.toml:3:1
      |
    3 | titel = "Who is waved at"
      | ^^^^^
    hint: did you mean `title`?

    tasks of schema 2 are not known
     --> wave.toml:1:10
      |
    1 | schema = 2
      |          ^
    hint: this program reads `schema = 1`

    `schema` is missing
     --> wave.toml:1:1
      |
    1 | name = "wave"
      | ^
    hint: begin the file with `schema = 1`

    `Wave one` cannot be a task's name
     --> wave.toml:2:8
      |
    2 | name = "Wave one"
      |        ^^^^^^^^^^
    hint: a task's name is made of lower-case letters, digits and hyphens

    unknown metric `logit-diference`
     --> wave.toml:5:8
      |
    5 | kind = "logit-diference"
      |        ^^^^^^^^^^^^^^^^^
    hint: did you mean `logit-difference`?

    unclosed table, expected `]`
     --> wave.toml:6:7
      |
    6 | [lists
      |       ^
    hint: mend the TOML here; https://toml.io describes it

    invalid type: string "two", expected a whole number
      --> wave.toml:22:31
       |
    22 | yy = { range = [2, 97], pad = "two" }
       |                               ^^^^^
    hint: write a whole number

    list `place` is empty
     --> wave.toml:8:9
      |
    8 | place = []
      |         ^^
    hint: put at least one word into it, or remove it

    `John` is twice in list `name`
     --> wave.toml:7:33
      |
    7 | name = ["Mary", "John", "Anna", "John", "Kate", "James"]
      |                                 ^^^^^^
    hint: remove one of the two

    unknown column `town`
      --> wave.toml:14:1
       |
    14 | town = "Rome"
       | ^^^^
    hint: known: country, city

    this row has no `city`
      --> wave.toml:12:1
       |
    12 | [[facts.capital]]
       | ^^^^^^^^^^^^^^^^^
    hint: every row of `capital` has the columns country, city
    "##);
}

#[test]
fn mistakes_in_slots_and_templates_are_shown_with_place_and_hint() {
    let all = [
        mistake("list = \"place\"", "list = \"plaec\""),
        mistake("s = { list = \"name\", ", "s = { "),
        mistake("[\"io\"]", "[\"oi\"]"),
        mistake("range = [2, 97]", "range = [97, 2]"),
        mistake("range = [2, 97]", "range = [\"{zz}+1\", 97]"),
        mistake("range = [2, 97]", "range = [\"{io}+1\", 97]"),
        mistake("range = [2, 97]", "range = [\"{yy}+1\", 97]"),
        mistake("{s:S1} met", "{ss:S1} met"),
        mistake("{s:S1} met", "{s:S1 met"),
        mistake("{s:S1} met", "{s:S2} met"),
        mistake("{s:S1} met", "{s:io} met"),
        mistake("{here.country}", "{here}"),
        mistake("{here.country}", "{here.contry}"),
        mistake("{place} and", "{place.size} and"),
    ];
    insta::assert_snapshot!(all.join("\n"), @r##"
    unknown list `plaec`
      --> wave.toml:19:18
       |
    19 | place = { list = "plaec" }
       |                  ^^^^^^^
    hint: did you mean `place`?

    slot `s` needs one of `list`, `range` and `facts`
      --> wave.toml:17:5
       |
    17 | s = { distinct_from = ["io"] }
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: write { list = "name" }, { range = [2, 97] } or { facts = "table" }

    unknown slot `oi`
      --> wave.toml:17:39
       |
    17 | s = { list = "name", distinct_from = ["oi"] }
       |                                       ^^^^
    hint: did you mean `io`?

    this range holds no numbers
      --> wave.toml:22:16
       |
    22 | yy = { range = [97, 2], pad = 2 }
       |                ^^^^^^^
    hint: the first end must not be above the second; both ends are included

    unknown slot `zz`
      --> wave.toml:22:17
       |
    22 | yy = { range = ["{zz}+1", 97], pad = 2 }
       |                 ^^^^^^^^
    hint: known: io, s, c, place, here, there, yy

    slot `io` is not a number
      --> wave.toml:22:17
       |
    22 | yy = { range = ["{io}+1", 97], pad = 2 }
       |                 ^^^^^^^^
    hint: ranges can be computed from slots with a `range` only

    the range of slot `yy` is computed from itself
      --> wave.toml:22:6
       |
    22 | yy = { range = ["{yy}+1", 97], pad = 2 }
       |      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: give one of the ranges fixed numbers

    unknown slot `ss`
      --> wave.toml:25:18
       |
    25 | text = "{io} and {ss:S1} met in the {place} and {s:S2} waved at"
       |                  ^^^^^^^
    hint: did you mean `s`?

    `{s:S1 met in the {place}` is not a slot
      --> wave.toml:25:18
       |
    25 | text = "{io} and {s:S1 met in the {place} and {s:S2} waved at"
       |                  ^^^^^^^^^^^^^^^^^^^^^^^^
    hint: write {slot}, {slot:label}, {fact.column} or {fact.column:label}; names are letters, digits, `_` and `-`

    label `S2` is used twice
      --> wave.toml:25:18
       |
    25 | text = "{io} and {s:S2} met in the {place} and {s:S2} waved at"
       |                  ^^^^^^
    hint: a label names one place of a frame; take another for the second

    label `io` is also the name of a slot
      --> wave.toml:25:18
       |
    25 | text = "{io} and {s:io} met in the {place} and {s:S2} waved at"
       |                  ^^^^^^
    hint: take another label

    slot `here` is a row of facts
      --> wave.toml:31:14
       |
    31 | text = "From {here} to the capital"
       |              ^^^^^^
    hint: write {here.country}; the columns are country, city

    unknown column `contry`
      --> wave.toml:31:14
       |
    31 | text = "From {here.contry} to the capital"
       |              ^^^^^^^^^^^^^
    hint: did you mean `country`?

    slot `place` has no column `size`
      --> wave.toml:25:36
       |
    25 | text = "{io} and {s:S1} met in the {place.size} and {s:S2} waved at"
       |                                    ^^^^^^^^^^^^
    hint: write {place}
    "##);
}

#[test]
fn mistakes_in_corruptions_answers_and_splits_are_shown_with_place_and_hint() {
    let all = [
        mistake("S2 = \"{io}\"", "S3 = \"{io}\""),
        mistake("S2 = \"{io}\"", "S2 = \"{s}\""),
        mistake("frames = [\"met\"]", "frames = [\"meet\"]"),
        mistake("here = \"{there}\"", "here = \"{there.city}\""),
        mistake("frames = [\"trip\"]", "frames = [\"met\"]"),
        mistake("name = \"third\"", "name = \"s2-to-io\""),
        mistake("wrong = [\"{s}\"]\n[splits]", "[splits]"),
        mistake("wrong = [\"{s}\"]", "wrong = [\"{io}\"]"),
        mistake("right = [\"{io}\"]", "right = { list = \"nmae\" }"),
        mistake("right = [\"{io}\"]", "right = { range = [5, 1] }"),
        mistake("by = [\"io\", \"s\"]", "by = [\"io\", \"c\"]"),
        mistake("by = [\"io\", \"s\"]", "by = [\"io\", \"q\"]"),
        mistake("every = 3", "every = 1"),
    ];
    insta::assert_snapshot!(all.join("\n"), @r##"
    frame `met` has no slot or label `S3`
      --> wave.toml:36:13
       |
    36 | replace = { S3 = "{io}" }
       |             ^^
    hint: did you mean `S1`?

    corruption `s2-to-io` changes nothing in frame `met`
      --> wave.toml:36:11
       |
    36 | replace = { S2 = "{s}" }
       |           ^^^^^^^^^^^^^^
    hint: replace with a slot that differs: `distinct_from` keeps two slots apart

    unknown frame `meet`
      --> wave.toml:41:11
       |
    41 | frames = ["meet"]
       |           ^^^^^^
    hint: did you mean `met`?

    slot `here` is a row of facts
      --> wave.toml:44:20
       |
    44 | replace = { here = "{there.city}" }
       |                    ^^^^^^^^^^^^^^
    hint: name the column, `"here.country" = ...`, or another row, `here = "{row}"`

    frame `met` has no slot or label `here`
      --> wave.toml:44:13
       |
    44 | replace = { here = "{there}" }
       |             ^^^^
    hint: `frames = [...]` limits a corruption to the frames that have it

    two corruptions of frame `met` are called `s2-to-io`
      --> wave.toml:39:8
       |
    39 | name = "s2-to-io"
       |        ^^^^^^^^^^
    hint: give one another name, or limit its `frames`

    metric `logit-difference` needs wrong answers, and frame `met` has none
     --> wave.toml:5:8
      |
    5 | kind = "logit-difference"
      |        ^^^^^^^^^^^^^^^^^^
    hint: add `wrong = [...]` to `[answer]` or to the frame, or take `log-probability`

    frame `met` makes no pairs: the right answer is among the wrong ones
      --> wave.toml:25:8
       |
    25 | text = "{io} and {s:S1} met in the {place} and {s:S2} waved at"
       |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: keep the slots of `right` and `wrong` apart with `distinct_from`

    unknown list `nmae`
      --> wave.toml:47:18
       |
    47 | right = { list = "nmae" }
       |                  ^^^^^^
    hint: did you mean `name`?

    this range holds no numbers
      --> wave.toml:47:19
       |
    47 | right = { range = [5, 1] }
       |                   ^^^^^^
    hint: the first end must not be above the second; both ends are included

    no frame shows slot `c`
      --> wave.toml:50:13
       |
    50 | by = ["io", "c"]
       |             ^^^
    hint: split by slots that stand in the clean prompts, so that no prompt is in both splits

    unknown slot `q`
      --> wave.toml:50:13
       |
    50 | by = ["io", "q"]
       |             ^^^
    hint: known: io, s, c, place, here, there, yy, frame

    `every = 1` is out of range
      --> wave.toml:51:9
       |
    51 | every = 1
       |         ^
    hint: `every` is 2 to 1000; one combination in so many is held out
    "##);
}

#[test]
fn files_that_are_missing_or_not_text_say_so() {
    assert_eq!(
        shown(task::resolve("./nowhere.toml")),
        "cannot read ./nowhere.toml: No such file or directory (os error 2)\n\
         hint: check the path; it is taken relative to the current folder\n"
    );
    insta::assert_snapshot!(shown(task::parse(b"schema = 1\nname = \"caf\xe9\"\n", "latin1.toml")), @r##"
    the file is not UTF-8: byte 0xe9 at offset 22
     --> latin1.toml:2:12
      |
    2 | name = "caf�"
      |            ^
    hint: save the file as UTF-8
    "##);
    assert_eq!(
        shown(task::resolve("greater-then")),
        "there is no task `greater-then`\nhint: did you mean `greater-than`?\n"
    );
}

#[test]
fn pairs_are_drawn_as_the_task_says() {
    let task = read(WAVE);
    let pairs = expand(&task, &ask(Split::All, 60, 1)).unwrap();
    for pair in &pairs {
        let word = |name: &str| &pair.clean[pair.positions[name].clone()];
        assert_ne!(pair.clean, pair.corrupt);
        match pair.frame.as_str() {
            "trip" => {
                let capital = |text: &str| if text.contains("France") { " Paris" } else { " Rome" };
                assert_eq!(pair.right, [capital(&pair.clean)]);
                assert_eq!(pair.wrong, [capital(&pair.corrupt)]);
                assert_eq!(word("here.country").len(), pair.clean.len() - "From  to the capital".len());
            }
            _ => {
                assert_eq!(word("S1"), word("S2"));
                assert_eq!(pair.right, [format!(" {}", word("io"))]);
                assert_eq!(pair.wrong, [format!(" {}", word("S1"))]);
                let end = format!("{} waved at", word("io"));
                assert!(pair.corrupt.ends_with(&end), "{}", pair.corrupt);
            }
        }
    }
    let of = |name: &str| pairs.iter().filter(|pair| pair.frame == name).count();
    // `trip` has two prompts; the other frames share the rest.
    assert_eq!((of("met"), of("saw"), of("trip")), (29, 29, 2));
    assert_eq!(pairs.iter().map(|pair| &pair.clean).collect::<IndexSet<_>>().len(), pairs.len());
}

#[test]
fn a_corruption_can_be_chosen() {
    let task = read(WAVE);
    let third = Expansion { corruption: Some("third".into()), ..ask(Split::All, 20, 0) };
    for pair in expand(&task, &third).unwrap() {
        assert_eq!(pair.frame, "met");
        assert!(!pair.clean.contains(pair.corrupt.rsplit(' ').nth(2).unwrap()));
    }
    let unknown = Expansion { corruption: Some("thrid".into()), ..ask(Split::All, 20, 0) };
    assert_eq!(shown(expand(&task, &unknown)), "task `wave` has no corruption `thrid`\nhint: did you mean `third`?\n");
}

#[test]
fn more_pairs_than_there_are_is_an_error_that_counts_them() {
    let task = read(WAVE);
    // Two frames of 6 · 5 names in 2 places, and two countries.
    assert_eq!(capacity(&task, Split::All, None).unwrap(), Capacity::Exactly(122));
    assert_eq!(expand(&task, &ask(Split::All, 122, 5)).unwrap().len(), 122);
    assert_eq!(
        shown(expand(&task, &ask(Split::All, 123, 5))),
        "123 pairs were asked for, but task `wave` can make only 122 distinct ones\n\
         hint: ask for at most 122, or give the task more words\n"
    );
    assert!(matches!(expand(&task, &ask(Split::All, 0, 5)), Err(TaskError::NoPairs { .. })));
}

#[test]
fn held_out_combinations_leave_every_word_in_every_role() {
    let task = read(WAVE);
    let count = |split| match capacity(&task, split, Some("s2-to-io")).unwrap() {
        Capacity::Exactly(pairs) => pairs,
        Capacity::AtMost(_) => panic!("few enough to count"),
    };
    let (train, test) = (count(Split::Train), count(Split::Test));
    assert_eq!(train + test, 120);
    let only = |split, pairs| Expansion { corruption: Some("s2-to-io".into()), ..ask(split, pairs, 3) };
    let train = expand(&task, &only(Split::Train, train)).unwrap();
    let test = expand(&task, &only(Split::Test, test)).unwrap();
    assert!(train.iter().all(|pair| test.iter().all(|other| other.clean != pair.clean)));
    let words = |pairs: &[PromptPair], answers: fn(&PromptPair) -> &str| {
        pairs.iter().map(|pair| answers(pair).to_owned()).collect::<IndexSet<String>>().len()
    };
    assert_eq!((words(&train, |pair| &pair.right[0]), words(&train, |pair| &pair.wrong[0])), (6, 6));
}

#[test]
fn computed_ranges_and_sets_follow_the_draw() {
    let task = read(
        r#"schema = 1
        name = "later"
        [metric]
        kind = "probability-difference"
        [slots]
        yy = { range = [2, 97], pad = 2, except = [45] }
        other = { range = ["{yy}+1", "{yy} + 2"], pad = 2 }
        [[frames]]
        text = "from 17{yy} to 17"
        [[corruptions]]
        name = "other"
        replace = { yy = "{other}" }
        [answer]
        right = { range = ["{yy}+1", 99], pad = 2 }
        wrong = { range = [0, "{yy}"], pad = 2 }
        space = false"#,
    );
    let pairs = expand(&task, &ask(Split::All, 95, 0)).unwrap();
    for pair in &pairs {
        let year: usize = pair.clean["from 17".len()..][..2].parse().unwrap();
        let other: usize = pair.corrupt["from 17".len()..][..2].parse().unwrap();
        assert!(year != 45 && (year + 1..=year + 2).contains(&other));
        assert_eq!((pair.wrong.len(), pair.right.len()), (year + 1, 99 - year));
        assert_eq!(pair.wrong[0], "00");
    }
}

/// Pins the draws: another generator, order of slots or way of drawing changes every published number.
#[test]
fn the_same_seed_gives_the_same_pairs_for_ever() {
    let pairs = expand(&read(WAVE), &ask(Split::Train, 4, 7)).unwrap();
    let texts: Vec<String> = pairs.iter().map(|pair| format!("{} | {}", pair.clean, pair.corrupt)).collect();
    insta::assert_snapshot!(texts.join("\n"), @r##"
    Mary and John met in the store and John waved at | Mary and John met in the store and Mary waved at
    In the park Kate saw Tom and Tom waved at | In the park Kate saw Tom and Kate waved at
    From France to the capital | From Italy to the capital
    Anna and James met in the park and James waved at | Anna and James met in the park and Anna waved at
    "##);
}

#[test]
fn a_task_fits_in_five_lines() {
    let task = read(
        r#"schema = 1
name = "wave"
slots = { a = { list = ["Mary", "John", "Anna"] }, b = { list = ["Mary", "John", "Anna"], distinct_from = ["a"] } }
frames = [{ text = "{a} and {b:B1} met, and {b:B2} waved at", right = ["{a}"], wrong = ["{b}"] }]
corruptions = [{ name = "swap", replace = { B2 = "{a}" } }]"#,
    );
    assert_eq!(capacity(&task, Split::All, None).unwrap(), Capacity::Exactly(6));
}

#[test]
fn every_built_in_task_expands_under_every_corruption() {
    for name in task::built_in_names() {
        let task = task::built_in(name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(task.name, name);
        assert!(task.paper.is_some(), "{name} cites its paper");
        let train = expand(&task, &ask(Split::Train, 200, 1)).unwrap();
        let test = expand(&task, &ask(Split::Test, 100, 1)).unwrap();
        assert!(train.iter().all(|pair| test.iter().all(|other| other.clean != pair.clean)), "{name}");
        let task::Content::Templates(templates) = &task.content else { panic!("{name} has templates") };
        for corruption in &templates.corruptions {
            let chosen = Expansion { corruption: Some(corruption.clone()), ..ask(Split::All, 50, 2) };
            assert_eq!(expand(&task, &chosen).unwrap().len(), 50, "{name} {corruption}");
        }
    }
}

fn data_task(folder: &Path, file: &str, data: &str, extra: &str) -> Result<Task, TaskError> {
    std::fs::write(folder.join(file), data).unwrap();
    let toml = folder.join("task.toml");
    std::fs::write(&toml, format!("schema = 1\nname = \"own\"\n[data]\nfile = \"{file}\"\n{extra}")).unwrap();
    task::load(toml)
}

#[test]
fn pairs_are_read_from_jsonl_json_and_csv() {
    let folder = tempfile::tempdir().unwrap();
    let columns = "columns = { clean = \"a\", corrupt = \"b\", answer = \"c\", wrong = \"d\" }";
    let files = [
        (
            "a.jsonl",
            "{\"clean\": \"x y\", \"corrupt\": \"x z\", \"answer\": \" a\", \"wrong\": [\" b\", \" c\"]}\n\n",
            "",
        ),
        ("b.json", "[{\"a\": \"x y\", \"b\": \"x z\", \"c\": [\" a\"], \"d\": [\" b\", \" c\"]}]", columns),
        ("c.csv", "a,b,c,d,e\nx y,x z, a,\"[\"\" b\"\", \"\" c\"\"]\",9\n", columns),
        (
            "d.json",
            "{\"prompts\": [{\"clean\": \"x y\", \"corrupt\": \"x z\", \"answers\": [\" a\"], \"wrong_answers\": [\" b\", \" c\"]}]}",
            "",
        ),
        (
            "e.txt",
            "{\"clean_prefix\": \"x y\", \"patch_prefix\": \"x z\", \"clean_answer\": \" a\", \"patch_answer\": [\" b\", \" c\"]}",
            "format = \"jsonl\"",
        ),
        (
            "f.jsonl",
            "\u{feff}{\"clean\": \"x y\", \"corrupt\": \"x z\", \"answer\": \"a\", \"wrong\": [\"b\", \"c\"]}",
            "[answer]\nspace = true",
        ),
    ];
    let mut hashes = IndexSet::new();
    for (file, data, extra) in files {
        let task = data_task(folder.path(), file, data, extra).unwrap_or_else(|error| panic!("{error}"));
        let pairs = expand(&task, &ask(Split::All, 1, 0)).unwrap();
        assert_eq!((pairs[0].clean.as_str(), pairs[0].corrupt.as_str()), ("x y", "x z"), "{file}");
        assert_eq!((pairs[0].right.join("|"), pairs[0].wrong.join("|")), (" a".into(), " b| c".into()), "{file}");
        hashes.insert(task.hash);
    }
    assert_eq!(hashes.len(), files.len(), "the hash covers the data");
}

#[test]
fn mistakes_in_data_files_are_shown_with_place_and_hint() {
    let folder = tempfile::tempdir().unwrap();
    let show = |file: &str, data: &str, extra: &str| {
        shown(data_task(folder.path(), file, data, extra)).replace(&format!("{}/", folder.path().display()), "")
    };
    let good = "{\"clean\": \"x y\", \"corrupt\": \"x z\", \"answer\": \" a\", \"wrong\": \" b\"}\n";
    let all = [
        show("a.jsonl", &format!("{good}{{\"clean\": \"x y\", \"corupt\": \"x z\", \"answer\": \" a\"}}"), ""),
        show("a.jsonl", &format!("{good}{{\"clean\": 5}}"), ""),
        show("a.jsonl", &format!("{good}{{\"clean\" \"x\"}}"), ""),
        show("a.jsonl", &good.replace(" b", " a"), ""),
        show("a.jsonl", "\n", ""),
        show("a.txt", good, ""),
        show("a.jsonl", good, "columns = { clean = \"cleen\" }"),
        show("a.csv", "clean,corrupt,answer,wrong\nx y,x z, a\n", ""),
        show("a.jsonl", good, "[answer]\nright = [\"a\"]"),
    ];
    insta::assert_snapshot!(all.join("\n"), @r##"
    this pair has no `corrupt`
     --> a.jsonl:2:1
      |
    2 | {"clean": "x y", "corupt": "x z", "answer": " a"}
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: name the right one in `[data] columns`; here are clean, corupt, answer

    `clean` is not text
     --> a.jsonl:2:1
      |
    2 | {"clean": 5}
      | ^^^^^^^^^^^^
    hint: write a string or a list of strings, none of them empty

    not valid JSON: expected `:`
     --> a.jsonl:2:10
      |
    2 | {"clean" "x"}
      |          ^
    hint: strings and keys need double quotes

    an answer is both right and wrong
     --> a.jsonl:1:1
      |
    1 | {"clean": "x y", "corrupt": "x z", "answer": " a", "wrong": " a"}
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: mend or remove this pair

    the file holds no pairs
     --> a.jsonl:1:1
      |
    1 |
      | ^
    hint: put at least one pair into it

    the file's ending does not say its format
     --> task.toml:4:8
      |
    4 | file = "a.txt"
      |        ^^^^^^^
    hint: add `format = "jsonl"`, "json" or "csv"

    unknown column `cleen`
     --> task.toml:5:21
      |
    5 | columns = { clean = "cleen" }
      |                     ^^^^^^^
    hint: did you mean `clean`?

    this row has 3 fields, the header has 4
     --> a.csv:2:1
      |
    2 | x y,x z, a
      | ^
    hint: put fields with commas, quotes or line breaks into double quotes

    a task with `[data]` takes its prompts and answers from the file alone
     --> task.toml:6:9
      |
    6 | right = ["a"]
      |         ^^^^^
    hint: remove this, or remove `[data]`
    "##);
    std::fs::write(folder.path().join("task.toml"), "schema = 1\nname = \"own\"\n[data]\nfile = \"none.jsonl\"")
        .unwrap();
    let missing = shown(task::load(folder.path().join("task.toml")));
    assert!(missing.contains("task.toml:4:8") && missing.contains("none.jsonl: No such file"), "{missing}");
}

#[test]
fn tokens_positions_and_first_difference() {
    let tokenizer = tokenizer();
    let pairs = expand(&read(WAVE), &ask(Split::All, 40, 0)).unwrap();
    let dataset = dataset::tokenize(&pairs, &tokenizer, None).unwrap();
    assert_eq!(dataset.bos, Bos::None);
    for pair in &dataset.pairs {
        assert_eq!(pair.clean.len(), pair.corrupt.len());
        assert_eq!(pair.clean[..pair.first_difference], pair.corrupt[..pair.first_difference]);
        assert_ne!(pair.clean[pair.first_difference], pair.corrupt[pair.first_difference]);
        assert_eq!(pair.positions["end"], pair.len() - 1..pair.len());
        if let Some(s2) = pair.positions.get("S2") {
            assert_eq!(s2.len(), 1);
            assert_eq!(s2.start, pair.first_difference);
            assert_eq!(pair.wrong, [pair.clean[s2.start]]);
        }
    }
    let with_bos = dataset::tokenize(&pairs, &tokenizer, Some(true)).unwrap();
    let bos = tokenizer.token_id("<s>").unwrap();
    assert_eq!(with_bos.bos, Bos::Asked(bos));
    for (pair, plain) in with_bos.pairs.iter().zip(&dataset.pairs) {
        assert_eq!((pair.clean[0], &pair.clean[1..]), (bos, &plain.clean[..]));
        assert_eq!(pair.first_difference, plain.first_difference + 1);
        assert_eq!(pair.positions["end"].start, plain.positions["end"].start + 1);
    }
    let fits =
        |dataset: &Dataset, context| dataset.check_fits(&Spec::gpt2(1, 1, 4, 1 << 20, context), &tokenizer).is_ok();
    assert!(fits(&dataset, 11) && !fits(&with_bos, 3));
}

#[test]
fn pairs_that_do_not_fit_the_tokenizer_show_their_tokens() {
    let pair = |clean: &str, corrupt: &str, right: &str, wrong: &str| PromptPair {
        clean: clean.into(),
        corrupt: corrupt.into(),
        right: vec![right.into()],
        wrong: vec![wrong.into()],
        frame: "f".into(),
        corruption: "c".into(),
        positions: Default::default(),
    };
    let show = |pair: PromptPair| shown(dataset::tokenize(&[pair], &tokenizer(), None));
    let all = [
        show(pair("Mary met", "John met", " New York", " Paris")),
        show(pair("Mary met", "John met", " Xanthippe", " Paris")),
        show(pair("Mary met", "John and Mary met", " Rome", " Paris")),
        show(pair("Mary met", "Mary met", " Rome", " Paris")),
        show(pair("Mary met Bob", "Mary met John", " Rome", " Paris")),
        show(pair("Mary met", "John met", " Rome", " Rome")),
    ];
    insta::assert_snapshot!(all.join("\n"), @r##"
    ` New York` is 2 tokens: [" New", " York"], in the answers to `Mary met`
    hint: take a word that is one token with its leading space

    ` Xanthippe` has words that the tokenizer does not know: [" Xanthippe"], in the answers to `Mary met`
    hint: take words that the model's tokenizer knows

    clean and corrupt prompts have 2 and 4 tokens (frame `f`, corruption `c`)
      clean:   ["Mary", " met"]
      corrupt: ["John", " and", " Mary", " met"]
    hint: take words of equally many tokens, so that every token has its counterpart

    corruption `c` changes no token of frame `f`: ["Mary", " met"]
    hint: take words that this tokenizer tells apart

    `Mary met Bob` has words that the tokenizer does not know: [" Bob"]
    hint: take words that the model's tokenizer knows

    a right and a wrong answer are the same token " Rome", in the answers to `Mary met`
    hint: take answers that this tokenizer tells apart
    "##);
    assert_eq!(
        shown(Tokenizer::from_bytes(b"{}")).lines().last(),
        Some("hint: a Hugging Face `tokenizer.json` is needed")
    );
}

#[test]
fn the_documentation_s_tasks_are_right() {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tasks.md")).unwrap();
    let blocks: Vec<&str> = docs.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let whole: Vec<&str> =
        blocks.into_iter().filter(|block| block.starts_with("schema = 1") && !block.contains("[data]")).collect();
    assert!(whole.len() >= 2);
    for block in whole {
        let task = read(block);
        assert!(!expand(&task, &ask(Split::Train, 3, 0)).unwrap().is_empty());
    }
    let new = task::new_task("mine").unwrap();
    assert_eq!(expand(&read(&new), &ask(Split::All, 20, 0)).unwrap().len(), 20);
}

fn penjing(arguments: &[&str], folder: &Path) -> (i32, String, String) {
    let output =
        assert_cmd::Command::cargo_bin("penjing").unwrap().args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_line_lists_shows_checks_and_starts_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| penjing(arguments, folder.path());

    let (code, out, _) = run(&["task", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, listed["tasks"].as_array().unwrap().len()), (0, task::built_in_names().count()));

    std::fs::write(folder.path().join("wave.toml"), WAVE).unwrap();
    let (code, out, _) = run(&["task", "show", "wave.toml"]);
    assert_eq!(code, 0);
    insta::assert_snapshot!(out, @r##"
    wave: Who is waved at

    metric       logit-difference
    corruptions  s2-to-io, third, elsewhere

    slots
      io           6 words of `name`, distinct from s, c
      s            6 words of `name`, distinct from io, c
      c            6 words of `name`, distinct from io, s
      place        2 words of `place`
      here         2 rows of `capital` (country, city), distinct from there
      there        2 rows of `capital` (country, city), distinct from here
      yy           02 to 97

    frame met (s2-to-io, third)
      {io} and {s:S1} met in the {place} and {s:S2} waved at
      right: "{io}"
      wrong: "{s}"

    frame saw (s2-to-io)
      In the {place} {io} saw {s:S1} and {s:S2} waved at
      right: "{io}"
      wrong: "{s}"

    frame trip (elsewhere)
      From {here.country} to the capital
      right: "{here.city}"
      wrong: "{there.city}"

    note on gpt2: one token each
    "##);

    let words: Vec<String> = ["Mary", "John", "Anna", "Tom", "Kate", "James"].map(str::to_owned).to_vec();
    let file = tokenizer_file(&words);
    std::fs::write(folder.path().join("tokenizer.json"), file).unwrap();
    let (code, out, _) = run(&["task", "check", "wave.toml", "--tokenizer", "tokenizer.json"]);
    assert_eq!(code, 1);
    insta::assert_snapshot!(out, @r##"
    wave: Who is waved at

    pairs
      s2-to-io to score on: 80
      s2-to-io held out: 40
      third to score on: 40
      third held out: 20
      elsewhere to score on: 2
      elsewhere held out: 0

    frame met, corruption s2-to-io
      clean      "Kate and Anna met in the store and Anna waved at"
      corrupt    "Kate and Anna met in the store and Kate waved at"
      right      " Kate"
      wrong      " Anna"
      tokens     0:"Kate" 1:" and" 2:" Anna" 3:" met" 4:" in" 5:" the" 6:" store" 7:" and" 8:" Anna"→" Kate" 9:" waved" 10:" at"
      positions  io 0, S1 2, place 6, S2 8, end 10

    frame saw, corruption s2-to-io
      clean      "In the store Mary saw James and James waved at"
      corrupt    "In the store Mary saw James and Mary waved at"
      right      " Mary"
      wrong      " James"
      tokens     0:"In" 1:" the" 2:" store" 3:" Mary" 4:" saw" 5:" James" 6:" and" 7:" James"→" Mary" 8:" waved" 9:" at"
      positions  place 2, io 3, S1 5, S2 7, end 9

    frame met, corruption third
      clean      "Kate and Anna met in the store and Anna waved at"
      corrupt    "Kate and Anna met in the store and Mary waved at"
      right      " Kate"
      wrong      " Anna"
      tokens     0:"Kate" 1:" and" 2:" Anna" 3:" met" 4:" in" 5:" the" 6:" store" 7:" and" 8:" Anna"→" Mary" 9:" waved" 10:" at"
      positions  io 0, S1 2, place 6, S2 8, end 10

    frame trip, corruption elsewhere
      clean      "From Italy to the capital"
      corrupt    "From France to the capital"
      right      " Rome"
      wrong      " Paris"

    lengths: 10 tokens (60 pairs), 11 tokens (120 pairs)
    beginning of text: none

    problem: the test split is empty under corruption `elsewhere`
      hint: give the task more words or change its [splits]
    problem: `From Italy to the capital` has words that the tokenizer does not know: ["From", " Italy", " to", " capital"]
      in 2 of 182 pairs
      hint: take words that the model's tokenizer knows
    2 problems
    "##);

    let (code, out, _) = run(&["task", "check", "wave.toml", "--tokenizer", "tokenizer.json", "--json"]);
    let checked: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, checked["problems"].as_array().unwrap().len()), (1, 2));

    let (code, out, err) = run(&["task", "new", "mine"]);
    assert_eq!((code, out.as_str()), (0, "mine.toml\n"), "{err}");
    assert_eq!(std::fs::read_to_string(folder.path().join("mine.toml")).unwrap(), task::new_task("mine").unwrap());
    let (code, _, err) = run(&["task", "new", "mine"]);
    assert_eq!(
        (code, err.as_str()),
        (2, "error: mine.toml exists already\n\nhint: take another name, or another file with --out\n")
    );
    let (code, _, err) = run(&["task", "check", "wav.toml"]);
    assert_eq!(code, 2);
    assert!(err.contains("wav.toml") && err.contains("\n\nhint: "), "{err}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "no temporary files are left");
}

/// A word-level tokenizer that knows these words and what the frames of the task above need, but not the countries.
fn tokenizer_file(words: &[String]) -> String {
    let mut vocabulary = serde_json::Map::new();
    let others = "<unk> and met in the park store waved at In saw".split(' ').map(str::to_owned);
    for word in others.chain(words.iter().cloned()) {
        for token in [word.clone(), format!(" {word}")] {
            let id = vocabulary.len();
            vocabulary.entry(token).or_insert(json!(id));
        }
    }
    let pre_tokenizer =
        json!({ "type": "Split", "pattern": { "Regex": " ?[^ ]+" }, "behavior": "Isolated", "invert": false });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null, "decoder": null,
        "added_tokens": [], "pre_tokenizer": pre_tokenizer,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" },
    })
    .to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn templates_survive_writing_and_reading(
        pieces in prop::collection::vec(("[a-z {}é\n]{0,6}", "[a-z]{1,4}(\\.[a-z]{1,3})?(:[A-Z][0-9])?"), 0..5)
    ) {
        use task::template::Template;
        let escaped = |text: &str| text.replace('{', "{{").replace('}', "}}");
        let text: String = pieces.iter().map(|(text, slot)| format!("{}{{{slot}}}", escaped(text))).collect();
        let template = Template::parse(&text).unwrap();
        prop_assert_eq!(template.to_string(), text);
        prop_assert_eq!(template.uses().count(), pieces.len());
    }

    #[test]
    fn any_text_is_a_template_or_a_problem_inside_it(text in ".{0,40}") {
        if let Err(problem) = task::template::Template::parse(&text) {
            prop_assert!(text.get(problem.at).is_some());
        }
    }

    #[test]
    fn splits_are_disjoint_and_seeds_repeat(seed in any::<u64>(), every in 2i64..6, pairs in 1usize..30) {
        let task = read(&WAVE.replace("every = 3", &format!("every = {every}")));
        let names = |pairs: &[PromptPair]| pairs.iter().map(|pair| pair.clean.clone()).collect::<IndexSet<String>>();
        let train = expand(&task, &ask(Split::Train, pairs, seed)).unwrap();
        let test = expand(&task, &ask(Split::Test, 12, seed)).unwrap();
        prop_assert!(names(&train).is_disjoint(&names(&test)));
        prop_assert_eq!(&expand(&task, &ask(Split::Train, pairs, seed)).unwrap(), &train);
        // A larger request begins with a smaller one.
        prop_assert_eq!(&expand(&task, &ask(Split::Train, pairs + 7, seed)).unwrap()[..pairs], &train[..]);
    }

    #[test]
    fn damaged_tasks_give_errors_and_no_panics(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..6)) {
        let mut bytes = WAVE.as_bytes().to_vec();
        for (at, byte, kind) in edits {
            // Removals may leave nothing to damage further.
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, b"{}[]\"=.,9\n"[byte as usize % 10]),
                2 => { bytes.remove(at); }
                _ => bytes.truncate(at.max(1)),
            }
        }
        match task::parse(&bytes, "damaged.toml") {
            Ok(task) => { let _ = expand(&task, &ask(Split::All, 5, 0)); }
            Err(error) => {
                let message = error.to_string();
                prop_assert!(!message.is_empty());
                if let TaskError::Diagnostic(diagnostic) = &error {
                    let (line, column) = diagnostic.line_column();
                    let place = format!("damaged.toml:{}:{}", line, column);
                    prop_assert!(message.contains(&place), "{} is not in {}", place, message);
                }
            }
        }
    }
}
