"""mlscale on SageMaker, as the double has it."""
