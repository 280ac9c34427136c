"""Sessions that leave the process or boto3. The core does not import this when it is loaded."""
