import pytest

from search.errors import UserError
from search.spec import Choices, Range, Spec, load_spec, named_specs, parse_spec


@pytest.mark.parametrize("name", sorted(named_specs()))
def test_every_shipped_spec_is_valid(name):
    assert isinstance(load_spec(name), Spec)


def test_an_empty_spec_is_all_defaults():
    assert parse_spec("") == Spec()


def test_overrides_reach_into_lists_of_methods_and_read_numbers_as_people_write_them():
    spec = parse_spec(
        "space: {methods: [rps, rand]}",
        ["space.methods.rps.lr=1e-1", "train.epochs=3", "space.ratio={low: 2, high: 8}", "objectives.max_bytes=200kB"],
    )
    assert spec.space.methods["rps"].lr == 0.1
    assert list(spec.space.methods) == ["rps", "rand"]
    assert spec.train.epochs == 3
    assert spec.space.ratio == Range(low=2, high=8)
    assert spec.objectives.max_bytes == 200_000


def test_a_methods_own_range_stands_before_the_common_one():
    space = parse_spec("space: {methods: {rps: {lr: 0.5}, rand: {}}, lr: {choices: [0.1, 0.2]}}").space
    assert space.searched("rps", "lr") == 0.5
    assert space.searched("rand", "lr") == Choices(choices=[0.1, 0.2])


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.epoch=3", r"train\.epoch: unknown field; did you mean 'epochs'\?"),
        ("train.epochs=x", r"train\.epochs: input should be a valid integer.*'x'"),
        ("space.ratio=0.5", r"ratio >= 1 must hold .* but ratio reaches 0\.5"),
        ("space.methods.rps.ratio=0.5", r"methods\.rps\.ratio reaches 0\.5"),
        ("space.ratio=.nan", r"space\.ratio: input should be a finite number"),
        ("space.methods=[rps, snipp]", r"unknown method 'snipp': did you mean 'snip'\?"),
        ("space.methods=[]", r"space\.methods: at least one must be given, but got"),
        ("space.lr={low: 0.5, high: 0.1}", r"low <= high must hold, but got low=0\.5, high=0\.1"),
        ("space.lr={low: 0, high: 0.1}", r"low > 0 must hold for a log range"),
        (
            "space.ratio={choices: [2, 4], low: 3}",
            r"space\.ratio\.low: does not go together with what stands beside it",
        ),
        ("space.lr.hi=3", r"space\.lr\.hi: unknown field; did you mean 'high'\?"),
        ("space.lr={low: -1, high: 1, log: false}", r"lr > 0 must hold, but lr reaches -1"),
        ("space.methods.rps.lrr=1", r"space\.methods\.rps\.lrr: unknown field; did you mean 'lr'\?"),
        ("data.name=cifar", r"unknown data set 'cifar': did you mean 'cifar10'\?"),
        ("model.name=resnet21", r"unknown model 'resnet21': did you mean 'resnet20'\?"),
        ("model.exclude=fc3", r"model\.exclude: must be a list such as \[a, b\], but got 'fc3'"),
        ("train.schedule=stp", r"train\.schedule: input should be 'step', 'cosine'"),
        ("train.milestones=[0.75, 0.5]", r"milestones must grow"),
        ("train.warmup_epochs=1000", r"warmup_epochs < epochs must hold"),
        ("model.weights_sha256=" + 64 * "a", r"no weights are given"),
        ("data.imbalance_factor=0.5", r"imbalance_factor: input should be greater than or equal to 1"),
        ('name="a\\nb"', "name: a name is one line that says something"),
        ('name="  "', "name: a name is one line that says something"),
        ("trials=true", r"trials: a truth value does not belong here, but got True"),
        ("space.ratio=yes", r"space\.ratio: a truth value does not belong here"),
        ("resources.custom={fpga: yes}", r"resources\.custom: a truth value does not belong here"),
        ("train.milestones=[0.5, yes]", r"train\.milestones: a truth value does not belong here"),
        ("space=" + "[" * 3000, r"nested too deeply"),
        ("trials=7", r"trials must be a multiple of repeats, but got 7 and 2"),
        ("resources.gpus=1.5", r"gpus must be a fraction up to 1 or a whole number"),
        ("search.early_stopping={grace_epochs: 999}", r"grace_epochs <= train\.epochs must hold"),
        ("trials", r"write it as key=value"),
        ("train.epochs.x=1", r"train\.epochs is 160 and has no fields"),
        ("space.lr=[0.1, 0.2]", r"space\.lr: must be a number, a range .* or a choice .*, but got \[0\.1, 0\.2\]$"),
        (
            "space.methods.rps.lr={choices: [a]}",
            r"space: methods\.rps\.lr: every choice must be a number, but got \['a'\]",
        ),
        ("space.lr=1..2", r"space\.lr: must be a number, a range .* or a choice .*, but got '1\.\.2'$"),
        (
            "space.methods.rps.args={a: [1]}",
            r"rps\.args\.a: must be a number, a truth value, a text, a range .* got \[1\]$",
        ),
        (
            "space.lr={choices: [[1]]}",
            r"space\.lr\.choices\.0: must be a number, a truth value, a text, but got \[1\]$",
        ),
        ("model.args={a: null}", r"model\.args\.a: must be .* a text or a list of those, but got None$"),
        ("train.compile=maybe", r"train\.compile: must be true, false or auto, but got 'maybe'$"),
        ("space.methods={no: {}}", r"space\.methods: each name must be text, in quotes .*, but got False$"),
        ("space.methods.a.b:c.lrr=1", r"space\.methods\.a\.b:c\.lrr: unknown field; did you mean 'lr'\?"),
        ("space.methods.a.b:c.=1", r"write it as key=value"),
        ("trials=[", r"not valid YAML"),
        ("space={lr: 0.1, lr: 0.2}", r"line 1, column 11: not valid YAML: 'lr' is written twice"),
    ],
)
def test_a_mistake_is_answered_with_where_what_and_the_nearest_name(override, sentence):
    text = "{trials: 6, repeats: 2, train: {epochs: 160}, space: {lr: {low: 0.1, high: 1}}}"
    with pytest.raises(UserError, match=sentence) as caught:
        parse_spec(text, [override])
    assert "\n" not in str(caught.value)


def test_overrides_reach_into_methods_of_ones_own_whose_names_have_dots():
    text = 'space: {methods: {rps: {}, "my_package.pruning:mine": {lr: 0.1}}}'
    spec = parse_spec(
        text, ["space.methods.my_package.pruning:mine.lr=0.2", "space.methods.my_package.pruning:mine.args.a=1"]
    )
    mine = spec.space.methods["my_package.pruning:mine"]
    assert (mine.lr, mine.args) == (0.2, {"a": 1})
    assert list(parse_spec("space: {methods: [rps]}", ["space.methods.my.other:one="]).space.methods) == [
        "rps",
        "my.other:one",
    ]


@pytest.mark.parametrize("name", ["infinity", "nan", "inf"])
def test_a_name_that_sounds_like_a_number_stays_a_name(name):
    spec = parse_spec("{}", [f"name={name}", f"space.methods.rps.args.start={name}"])
    assert (spec.name, spec.space.methods["rps"].args["start"]) == (name, name)


@pytest.mark.parametrize(("text", "number"), [("1e-3", 0.001), (".5e1", 5.0), ("2.e0", 2.0)])
def test_numbers_with_exponents_are_numbers(text, number):
    assert parse_spec("{}", [f"space.methods.rps.args.a={text}"]).space.methods["rps"].args["a"] == number


def test_numbers_with_exponents_are_numbers_in_a_file_too():
    """As texts they chose no trial for a claim, and went to methods and models as texts."""
    spec = parse_spec(
        """
        space: {lr: {choices: [1e-3, 1e-2]}, methods: {rps: {args: {init_std: 1e-1}}}}
        model: {args: {width: 5e-1}}
        objectives: {max_bytes: 2e5}
        claims: [{claim: a, of: {lr: 1e-3}, against: {lr: [1e-2, 2e-2]}}]
        """
    )
    assert spec.space.lr.choices == [0.001, 0.01]
    assert spec.space.methods["rps"].args == {"init_std": 0.1}
    assert spec.model.args == {"width": 0.5}
    assert spec.objectives.max_bytes == 200_000
    assert (spec.claims[0].of, spec.claims[0].against) == ({"lr": 0.001}, {"lr": [0.01, 0.02]})


def test_specs_train_by_nesterovs_momentum_and_recorded_studies_by_theirs():
    assert parse_spec("{}").train.nesterov
    plain = {name for name in named_specs() if not load_spec(name).train.nesterov}
    assert {"studies/figure_digits", "studies/lr_law_digits", "studies/searching_tpe"} <= plain
    assert not plain & {"cifar10", "quickstart", "studies/figure_cifar10", "studies/figure_cifar10_20k"}


def test_no_narrower_model_starts_from_trained_weights():
    text = "{model: {weights: dense.safetensors}, train: {epochs: 0}, space: {methods: [mag, rps]}}"
    assert parse_spec(text).train.epochs == 0
    with pytest.raises(UserError, match=r"small builds a narrower model, which model\.weights do not fit"):
        parse_spec(text, ["space.methods.small="])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n- b", "a spec is a mapping of fields, but this is a list"),
        ("a: [1", "line 1, column 6: not valid YAML"),
        ("name: !!timestamp foo", "spec: not valid YAML"),
        ("name: 2026-99-99", "spec: not valid YAML: month must be in 1..12"),
        ("trials: 3\nspace:\n  lr: 0.1\ntrials: 4", "line 4, column 1: not valid YAML: 'trials' is written twice"),
        ("space: {lr: 0.1, lr: 0.2}", "'lr' is written twice"),
        ("model: {args: &a {x: *a}}", "spec: not valid YAML: an alias"),
        ("? [a, b]\n: 1", "spec: line 1, column 3: not valid YAML: found unhashable key"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_what_is_no_spec_is_refused_and_nothing_in_it_is_run(text, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_spec(text)


def test_a_name_that_is_none_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match="did you mean 'quickstart'"):
        load_spec("quikstart")
    with pytest.raises(UserError, match="no such file"):
        load_spec(str(tmp_path / "missing.yaml"))
    with pytest.raises(UserError, match=r"^unknown spec 'name: mine.{,80}known are") as caught:
        load_spec("name: mine\ntrials: 4\n" * 100)
    assert "\n" not in str(caught.value)


def test_a_file_is_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine")
    assert load_spec(str(path)).name == "mine"


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as a text file"):
        load_spec(str(path))
