"""Train an encoder with your own Lightning Trainer: python examples/from_python.py

Needs pip install 'simcse-lit[offline]', no GPU and no network. docs/tutorials/from-python.ipynb explains each step.
"""

import pytorch_lightning as pl

from simcse_lit import SimCSE, build, compose, save_export


def main() -> None:
    """Train on the bundled triplets, score, and save."""
    config = compose(
        "train",
        [
            *("loss=sup", "data=samples", "model=minilm-l3", "pooler=avg", "projection=mlp_train_only"),
            *("data.batch_size=32", "data.drop_last=true", "optimizer.lr=3e-4", "trainer=cpu", "senteval.from_hub=false"),
        ],
    )
    module, data = build(config)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=20,
        gradient_clip_val=config.trainer.gradient_clip_val,  # 1.0; Lightning clips nothing by itself
        val_check_interval=10,
        logger=pl.loggers.CSVLogger("logs"),
    )
    trainer.fit(module, data)
    trainer.test(module, data)
    save_export("export", config, module, data)
    print(SimCSE("export").similarity("A man plays guitar.", ["Somebody makes music.", "A woman is reading."]))


if __name__ == "__main__":
    main()
