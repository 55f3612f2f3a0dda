"""What a trained model computes, as files that other programs run."""
