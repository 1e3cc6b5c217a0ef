"""What tests start from: a model, a configuration, an endpoint, a scalable target, made through the API itself."""

from __future__ import annotations

from typing import Any

from tests.doubles.aws.serving import Double

BUCKET = "acme-ml"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
ARTIFACT = f"s3://{BUCKET}/mlscale/uploads/reviews/0123456789abcdef.tar.gz"
DELAY_S = 60.0


def a_model(double: Double, name: str = "reviews-1", **asked: Any) -> str:
    """Make a model with all that it needs; its name."""
    try:
        role = double.make_role()
        double.make_bucket(BUCKET)
    except double.client("iam").exceptions.EntityAlreadyExistsException:
        role = double.client("iam").get_role(RoleName="mlscale-serving")["Role"]["Arn"]
    double.client("s3").put_object(Bucket=BUCKET, Key=ARTIFACT.partition(f"{BUCKET}/")[2], Body=b"model")
    container = {"Image": IMAGE, "ModelDataUrl": ARTIFACT}
    double.client("sagemaker").create_model(
        **{"ModelName": name, "ExecutionRoleArn": role, "PrimaryContainer": container} | asked
    )
    return name


def a_variant(**asked: Any) -> dict[str, Any]:
    """Return a production variant of a configuration."""
    plain = {"VariantName": "a", "ModelName": "reviews-1", "InitialInstanceCount": 2, "InstanceType": "ml.c5.xlarge"}
    return {name: value for name, value in (plain | asked).items() if value is not None}


def a_config(double: Double, name: str = "reviews-c1", *variants: dict[str, Any], **asked: Any) -> str:
    """Make a configuration; its name."""
    double.client("sagemaker").create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=list(variants) or [a_variant()], **asked
    )
    return name


def an_endpoint(double: Double, config: str = "reviews-c1", name: str = "reviews", **asked: Any) -> str:
    """Make an endpoint and let its time pass; its name. From then on a change takes a minute of the double's clock."""
    double.post("settings", delay_s=DELAY_S)
    double.client("sagemaker").create_endpoint(EndpointName=name, EndpointConfigName=config, **asked)
    double.post("advance", seconds=DELAY_S)
    return name


def serving_reviews(double: Double, *variants: dict[str, Any], **config: Any) -> str:
    """Make the model, the configuration and the endpoint; the endpoint's name."""
    a_model(double)
    a_config(double, "reviews-c1", *variants, **config)
    return an_endpoint(double)


def target(variant: str = "a", endpoint: str = "reviews") -> dict[str, str]:
    """Return what names a scalable target."""
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{variant}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
