"""The search over trials: Ray Tune runs them, Optuna proposes them, the tables remember them."""
