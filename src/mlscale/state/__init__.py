"""What is remembered: workspace, lease, journal."""
