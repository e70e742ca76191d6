"""What can be measured of one synthesised recording, each measure by a published definition or model."""
