"""Training one model: device and precision, schedule, the loop, checkpoints, measurements."""
