"""What happens to images: one file a stage of the flow, one folder a family that grows."""
