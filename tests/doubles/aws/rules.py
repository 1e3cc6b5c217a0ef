"""Every behaviour that the double imitates: what is asked, when, what is answered, and how that is known.

`python -m tests.doubles.aws.rules` prints how many there are, and the share of guesses. The code names each
rule where it applies it.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import Literal

Mark = Literal["documented", "observed", "guessed"]

SM = "https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_"
DG = "https://docs.aws.amazon.com/sagemaker/latest/dg/"
RUN = f"{SM}runtime_"
AAS = "https://docs.aws.amazon.com/autoscaling/application/APIReference/API_"
CW = "https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_"
LOGS = "https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_"
GITHUB = "https://github.com/"
OPERATOR = (
    f"{GITHUB}aws/amazon-sagemaker-operator-for-k8s/blob/master/controllers/sdkutil/clientwrapper/sagemaker_client.go"
)
TERRAFORM = f"{GITHUB}hashicorp/terraform-provider-aws/issues/"
EXAMPLES = f"{GITHUB}aws/amazon-sagemaker-examples/issues/"


@dataclass(frozen=True, slots=True)
class Rule:
    """One behaviour. The mark is about the behaviour; where only an error's wording is a guess, `answer` says so."""

    id: str
    operation: str
    condition: str
    answer: str
    mark: Mark
    source: str = ""


def _documented(id_: str, operation: str, condition: str, answer: str, source: str) -> Rule:
    return Rule(id_, operation, condition, answer, "documented", source)


def _observed(id_: str, operation: str, condition: str, answer: str, source: str) -> Rule:
    return Rule(id_, operation, condition, answer, "observed", source)


def _guessed(id_: str, operation: str, condition: str, answer: str) -> Rule:
    return Rule(id_, operation, condition, answer, "guessed")


UNSURE = "ValidationException, our words"

RULES: tuple[Rule, ...] = (
    _observed(
        "request.model",
        "all JSON operations",
        "a member is missing, too long, or has a wrong pattern or word",
        "ValidationException: N validation errors detected: Value '...' at '...' failed to satisfy constraint: ...",
        f"{GITHUB}aws-samples/sagemaker-ml-workflow-with-apache-airflow/issues/3",
    ),
    _guessed("double.not-implemented", "any", "neither the double nor moto has it", "501 MlscaleDoubleNotImplemented"),
    # models
    _observed(
        "model.duplicate",
        "CreateModel",
        "there is a model of that name",
        'ValidationException: Cannot create already existing model "ARN".',
        f"{GITHUB}aws/sagemaker-python-sdk/issues/101",
    ),
    _observed("model.missing", "any on a model", "there is none", 'Could not find model "ARN".', OPERATOR),
    _documented(
        "model.container",
        "CreateModel",
        "no container, both kinds, or one without image",
        UNSURE,
        f"{SM}CreateModel.html",
    ),
    _observed(
        "model.role",
        "CreateModel",
        "the role is not there or SageMaker may not take it",
        "ValidationException: Could not access model data at URI. Please ensure that the role ... exists and ...",
        f"{GITHUB}philschmid/llm-sagemaker-sample/issues/2",
    ),
    _observed(
        "model.data",
        "CreateModel",
        "the model's data is not there",
        "ValidationException: Could not find model data at URI.",
        f"{EXAMPLES}2264",
    ),
    _guessed(
        "model.image", "CreateModel", "an image of this account is not in its registry", "Requested image X not found."
    ),
    _documented("model.all-fields", "DescribeModel", "always", "all that was asked", f"{SM}DescribeModel.html"),
    _documented(
        "model.delete-in-use", "DeleteModel", "a configuration names it", "it is deleted", f"{SM}DeleteModel.html"
    ),
    # configurations
    _observed(
        "config.duplicate",
        "CreateEndpointConfig",
        "there is one of that name",
        'ValidationException: Cannot create already existing endpoint configuration "ARN".',
        f"{GITHUB}awslabs/spot-tagging-bot-for-digital-assets/issues/2",
    ),
    _observed(
        "config.missing",
        "any on a configuration",
        "there is none",
        'Could not find endpoint configuration "ARN".',
        f"{EXAMPLES}2339",
    ),
    _guessed("config.variant-names", "CreateEndpointConfig", "two variants of one name", UNSURE),
    _observed(
        "config.managed-scaling",
        "CreateEndpointConfig",
        "ManagedInstanceScaling on a variant with a ModelName",
        "ValidationException: ManagedInstanceScaling is only supported for inference component endpoints.",
        f"{GITHUB}hashicorp/terraform-provider-aws/pull/45926",
    ),
    _observed(
        "config.component-role",
        "CreateEndpointConfig",
        "a variant without ModelName and no ExecutionRoleArn",
        UNSURE,
        f"{GITHUB}stdapi-ai/stdapi.ai/issues/43",
    ),
    _guessed(
        "config.instance-type", "CreateEndpointConfig", "both or neither of InstanceType and InstancePools", UNSURE
    ),
    _guessed(
        "config.instance-count", "CreateEndpointConfig", "no InitialInstanceCount on a variant with a model", UNSURE
    ),
    _guessed("config.pools", "CreateEndpointConfig", "two pools of one type or one priority", UNSURE),
    _documented(
        "config.serverless",
        "CreateEndpointConfig",
        "ServerlessConfig beside instances",
        UNSURE,
        f"{SM}ProductionVariant.html",
    ),
    _guessed("config.serverless-async", "CreateEndpointConfig", "ServerlessConfig beside AsyncInferenceConfig", UNSURE),
    _documented(
        "config.shadow-one",
        "CreateEndpointConfig",
        "ShadowProductionVariants with more than one of either kind",
        UNSURE,
        f"{SM}CreateEndpointConfig.html",
    ),
    _documented(
        "config.shadow-kind",
        "CreateEndpointConfig",
        "ShadowProductionVariants for a serverless or asynchronous endpoint",
        UNSURE,
        f"{DG}shadow-tests-exclusions.html",
    ),
    _documented(
        "config.serverless-several",
        "CreateEndpointConfig",
        "several serverless variants",
        UNSURE,
        f"{DG}serverless-endpoints.html",
    ),
    _observed(
        "config.async-several",
        "CreateEndpointConfig",
        "several variants beside AsyncInferenceConfig",
        UNSURE,
        f"{GITHUB}aws/aws-cdk-rfcs/pull/433",
    ),
    _documented(
        "config.serverless-memory",
        "CreateEndpointConfig",
        "memory that is no multiple of 1024 MB up to 6144",
        UNSURE,
        f"{SM}ProductionVariantServerlessConfig.html",
    ),
    _documented(
        "config.serverless-provisioned",
        "CreateEndpointConfig",
        "ProvisionedConcurrency above MaxConcurrency",
        UNSURE,
        f"{SM}ProductionVariantServerlessConfig.html",
    ),
    _documented(
        "config.all-fields",
        "DescribeEndpointConfig",
        "always",
        "all that was asked",
        f"{SM}DescribeEndpointConfig.html",
    ),
    _documented(
        "config.weight-default", "CreateEndpointConfig", "no InitialVariantWeight", "1.0", f"{SM}ProductionVariant.html"
    ),
    _observed(
        "config.delete-in-use",
        "DeleteEndpointConfig",
        "an endpoint uses it",
        "it is deleted, and a later update of the endpoint fails",
        f"{TERRAFORM}40048",
    ),
    # endpoints
    _observed(
        "endpoint.duplicate",
        "CreateEndpoint",
        "there is one of that name, in any status",
        'ValidationException: Cannot create already existing endpoint "ARN".',
        f"{GITHUB}aws/sagemaker-python-sdk/issues/101",
    ),
    _observed(
        "endpoint.missing", "any on an endpoint", "there is none", 'Could not find endpoint "ARN".', f"{EXAMPLES}2402"
    ),
    _guessed(
        "endpoint.model-missing",
        "CreateEndpoint, UpdateEndpoint",
        "a model of the configuration is gone",
        "model.missing",
    ),
    _observed(
        "endpoint.busy",
        "UpdateEndpoint, UpdateEndpointWeightsAndCapacities, DeleteEndpoint",
        "a change is under way, Creating and Deleting included",
        'ValidationException: Cannot update in-progress endpoint "ARN".',
        OPERATOR,
    ),
    _documented(
        "endpoint.failed",
        "UpdateEndpoint, UpdateEndpointWeightsAndCapacities",
        "the endpoint is Failed",
        f"{UNSURE}; only DeleteEndpoint works",
        f"{SM}DescribeEndpoint.html",
    ),
    _guessed(
        "endpoint.creating", "DescribeEndpoint", "Creating", "variants with 0 running instances and VariantStatus"
    ),
    _documented(
        "endpoint.pending",
        "DescribeEndpoint",
        "creating, or updating to a new configuration",
        "PendingDeploymentSummary",
        f"{SM}DescribeEndpoint.html",
    ),
    _documented(
        "endpoint.shadows",
        "DescribeEndpoint",
        "a configuration has ShadowProductionVariants",
        "they are shown apart",
        f"{SM}DescribeEndpoint.html",
    ),
    _documented(
        "endpoint.pools-summary",
        "DescribeEndpoint",
        "a variant has InstancePools",
        "InstancePools with the count of each type",
        f"{SM}ProductionVariantSummary.html",
    ),
    _observed(
        "endpoint.delete-deregisters",
        "DeleteEndpoint",
        "a variant is a scalable target",
        "the target goes with its policies and scheduled actions",
        f"{GITHUB}awslabs/stable-diffusion-aws-extension/issues/161",
    ),
    _documented(
        "create.failed",
        "CreateEndpoint",
        "a container fails",
        "Failed with a FailureReason",
        f"{SM}DescribeEndpoint.html",
    ),
    _documented(
        "list.filter-before-page",
        "List*",
        "filters and pages",
        "pages of what fits the filters",
        f"{SM}ListEndpoints.html",
    ),
    _documented("list.newest-first", "List*", "no order asked", "newest first, ten a page", f"{SM}ListEndpoints.html"),
    # updates
    _observed(
        "update.old-config-missing",
        "UpdateEndpoint",
        "the configuration in use was deleted",
        'ValidationException: Could not find endpoint configuration "ARN of the old one".',
        f"{TERRAFORM}40048",
    ),
    _observed(
        "update.retain",
        "UpdateEndpoint",
        "without RetainAllVariantProperties",
        "counts and weights go back to the configuration's",
        f"{TERRAFORM}49069",
    ),
    _documented(
        "update.capture",
        "UpdateEndpoint",
        "with RetainAllVariantProperties",
        "data capture is the new configuration's: it is no retained property",
        f"{SM}VariantProperty.html",
    ),
    _documented(
        "update.retain-deployment",
        "UpdateEndpoint",
        "RetainDeploymentConfig",
        "the last DeploymentConfig is used again",
        f"{SM}UpdateEndpoint.html",
    ),
    _documented(
        "update.autoscaled",
        "UpdateEndpoint",
        "another instance type for a scalable target, or its variant removed",
        f"{UNSURE}: The variant(s) ... must be deregistered as a scalable target ...",
        f"{DG}endpoint-scaling-update.html",
    ),
    _documented(
        "update.rollback",
        "UpdateEndpoint",
        "the new fleet fails",
        "RollingBack, then InService with the old configuration and a FailureReason",
        f"{DG}deployment-guardrails-blue-green.html",
    ),
    _observed(
        "update.silent-failure",
        "UpdateEndpoint",
        "the new fleet fails",
        "InService with the old configuration",
        f"{GITHUB}aws/sagemaker-python-sdk/issues/2431",
    ),
    _documented(
        "update.alarm-rollback",
        "UpdateEndpoint",
        "an AutoRollback alarm is in ALARM before the end",
        "rolled back",
        f"{SM}AutoRollbackConfig.html",
    ),
    # failures of containers and capacity
    _observed(
        "failure.ping",
        "DescribeEndpoint",
        "the container does not answer /ping",
        "The primary container for production variant V did not pass the ping health check. ...",
        f"{GITHUB}aws/sagemaker-python-sdk/issues/155",
    ),
    _observed(
        "failure.capacity",
        "DescribeEndpoint",
        "no machines left",
        "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. ...",
        f"{GITHUB}DIAGNijmegen/rse-grand-challenge/issues/2631",
    ),
    _observed(
        "failure.image",
        "DescribeEndpoint",
        "the image can't be pulled",
        "Please make sure all images included in the model for the production variant V exist, ...",
        f"{GITHUB}aws/sagemaker-python-sdk/issues/2001",
    ),
    _documented(
        "capacity.pools",
        "CreateEndpoint, UpdateEndpoint",
        "no machines of the first pool",
        "instances of the next pool by priority",
        f"{SM}InstancePool.html",
    ),
    _observed(
        "capacity.insufficient",
        "CreateEndpoint, UpdateEndpoint, UpdateEndpointWeightsAndCapacities",
        "no machines of any pool",
        "Failed on create, rolled back otherwise, with failure.capacity",
        f"{GITHUB}DIAGNijmegen/rse-grand-challenge/issues/2631",
    ),
    # ways of deploying
    _documented(
        "deployment.one-policy", "CreateEndpoint, UpdateEndpoint", "both policies", UNSURE, f"{SM}DeploymentConfig.html"
    ),
    _guessed("deployment.serverless", "CreateEndpoint, UpdateEndpoint", "DeploymentConfig for serverless", UNSURE),
    _documented(
        "deployment.variant-names",
        "UpdateEndpoint",
        "other variant names than those in use",
        UNSURE,
        f"{DG}deployment-guardrails-exclusions.html",
    ),
    _documented(
        "deployment.rolling-variants",
        "UpdateEndpoint",
        "rolling with several variants",
        UNSURE,
        f"{DG}deployment-guardrails-exclusions.html",
    ),
    _documented(
        "deployment.sizes",
        "CreateEndpoint, UpdateEndpoint",
        "a step size that is missing, of the other kind, or out of its range",
        UNSURE,
        f"{SM}TrafficRoutingConfig.html",
    ),
    _documented(
        "deployment.timeout",
        "CreateEndpoint, UpdateEndpoint",
        "MaximumExecutionTimeoutInSeconds not above the waits",
        UNSURE,
        f"{SM}BlueGreenUpdatePolicy.html",
    ),
    _guessed("deployment.alarms", "CreateEndpoint, UpdateEndpoint", "an AutoRollback alarm is not there", UNSURE),
    # weights
    _guessed("weights.variant-missing", "UpdateEndpointWeightsAndCapacities", "no such variant", UNSURE),
    _guessed("weights.variant-twice", "UpdateEndpointWeightsAndCapacities", "a variant twice", UNSURE),
    _documented(
        "weights.one-count",
        "UpdateEndpointWeightsAndCapacities",
        "counts of several variants",
        UNSURE,
        f"{SM}UpdateEndpointWeightsAndCapacities.html",
    ),
    _guessed(
        "weights.shadow", "UpdateEndpointWeightsAndCapacities", "the weight of a shadow", "changed as of any variant"
    ),
    _documented(
        "weights.partial",
        "UpdateEndpointWeightsAndCapacities",
        "only a weight or only a count",
        "the other stays",
        f"{SM}UpdateEndpointWeightsAndCapacities.html",
    ),
    _documented(
        "weights.float32",
        "all with weights",
        "0.1 was asked",
        "0.10000000149011612: the shape is a 32-bit float",
        f"{SM}DesiredWeightAndCapacity.html",
    ),
    _guessed(
        "weights.bounds",
        "UpdateEndpointWeightsAndCapacities",
        "a count outside a scalable target's bounds",
        "taken as it is",
    ),
    # tags
    _documented("tags.replace", "AddTags", "the key is there", "the value is replaced", f"{SM}AddTags.html"),
    _documented("tags.limit", "AddTags", "more than 50 tags", UNSURE, f"{SM}AddTags.html"),
    _guessed("tags.missing", "AddTags, ListTags, DeleteTags", "nothing has that ARN", UNSURE),
    _guessed("tagging.token", "GetResources", "a token that was not given", "InvalidParameterException"),
    # quotas
    _observed(
        "quota.exceeded",
        "CreateEndpoint, UpdateEndpoint, UpdateEndpointWeightsAndCapacities",
        "more instances of a type than the quota; an update needs both fleets",
        "ResourceLimitExceeded: The account-level service limit 'T for endpoint usage' is N Instances, ...",
        f"{EXAMPLES}307",
    ),
    _guessed("quota.endpoints", "CreateEndpoint", "more endpoints than the quota", "ResourceLimitExceeded"),
    _guessed("quota.codes", "ListServiceQuotas", "always", "codes made from the name, 1000 each; AWS has its own"),
    _documented(
        "quota.missing",
        "GetServiceQuota",
        "no such quota or service",
        "NoSuchResourceException",
        "https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_GetServiceQuota.html",
    ),
    # invocations
    _observed(
        "invoke.missing",
        "InvokeEndpoint, InvokeEndpointAsync",
        "no endpoint of that name, its case included",
        "ValidationError: Endpoint X of account Y not found.",
        f"{EXAMPLES}293",
    ),
    _guessed("invoke.not-serving", "InvokeEndpoint", "Creating or Failed", "as if it were not there"),
    _guessed("invoke.variant-missing", "InvokeEndpoint", "no such TargetVariant", "ValidationError, our words"),
    _guessed("invoke.async-only", "InvokeEndpoint", "an asynchronous endpoint", "ValidationError, our words"),
    _guessed("invoke.not-async", "InvokeEndpointAsync", "not an asynchronous endpoint", "ValidationError, our words"),
    _documented(
        "invoke.weights",
        "InvokeEndpoint",
        "several variants",
        "traffic by weight over the sum of weights; here in turns, so that shares are exact",
        f"{SM}ProductionVariant.html",
    ),
    _guessed(
        "invoke.shadow", "InvokeEndpoint", "a shadow", "copies of the weight of the shadow over that of the production"
    ),
    _documented(
        "invoke.model-error",
        "InvokeEndpoint",
        "the container answers 4xx or 5xx",
        "424 ModelError with OriginalStatusCode and OriginalMessage",
        f"{RUN}InvokeEndpoint.html",
    ),
    _documented(
        "invoke.metrics",
        "InvokeEndpoint",
        "always",
        "Invocations, InvocationsPerInstance, errors and latencies in microseconds in AWS/SageMaker",
        f"{DG}monitoring-cloudwatch.html",
    ),
    _documented(
        "invoke.async-locations",
        "InvokeEndpointAsync",
        "always",
        "the answer or the failure becomes an object under the configuration's paths",
        f"{DG}async-inference-create-endpoint.html",
    ),
    _documented(
        "invoke.async-waits",
        "InvokeEndpointAsync",
        "no instances",
        "the request waits until there are some",
        f"{DG}async-inference-autoscale.html",
    ),
    # scalable targets
    _documented(
        "target.capacities",
        "RegisterScalableTarget",
        "a new target without MinCapacity or MaxCapacity",
        UNSURE,
        f"{AAS}RegisterScalableTarget.html",
    ),
    _documented(
        "target.partial",
        "RegisterScalableTarget",
        "a registered target",
        "only what is named changes",
        f"{AAS}RegisterScalableTarget.html",
    ),
    _documented(
        "target.current-capacity",
        "RegisterScalableTarget",
        "the active variant's count is outside the bounds",
        "it is brought inside; the endpoint is Updating meanwhile",
        f"{AAS}RegisterScalableTarget.html",
    ),
    _guessed("target.bounds", "RegisterScalableTarget", "MinCapacity above MaxCapacity", UNSURE),
    _guessed("target.resource-missing", "RegisterScalableTarget", "no such variant", UNSURE),
    _guessed("target.resource-state", "RegisterScalableTarget", "the endpoint is Creating, Failed or Deleting", UNSURE),
    _guessed("target.dimension", "RegisterScalableTarget", "instances of a serverless variant, or the reverse", UNSURE),
    _documented(
        "target.missing",
        "DeregisterScalableTarget",
        "not registered",
        "ObjectNotFoundException, our words",
        f"{AAS}DeregisterScalableTarget.html",
    ),
    _documented(
        "target.cascade",
        "DeregisterScalableTarget",
        "it has policies and scheduled actions",
        "they go with it",
        f"{AAS}DeregisterScalableTarget.html",
    ),
    _documented(
        "target.tags-missing", "TagResource", "no such target", "ResourceNotFoundException", f"{AAS}TagResource.html"
    ),
    # scaling policies
    _observed(
        "policy.target-missing",
        "PutScalingPolicy",
        "the target is not registered",
        "ObjectNotFoundException: No scalable target registered for service namespace: ..., resource ID: ...",
        f"{GITHUB}ansible/ansible/issues/40237",
    ),
    _documented(
        "policy.missing",
        "DeleteScalingPolicy",
        "no such policy",
        "ObjectNotFoundException",
        f"{AAS}DeleteScalingPolicy.html",
    ),
    _documented(
        "policy.body",
        "PutScalingPolicy",
        "no configuration of the policy's type",
        UNSURE,
        f"{AAS}PutScalingPolicy.html",
    ),
    _guessed("policy.type-change", "PutScalingPolicy", "another type for an existing policy", UNSURE),
    _documented(
        "policy.metric",
        "PutScalingPolicy",
        "both or neither of predefined and customized metric",
        UNSURE,
        f"{AAS}TargetTrackingScalingPolicyConfiguration.html",
    ),
    _observed(
        "policy.metric-type",
        "PutScalingPolicy",
        "a predefined metric of another dimension",
        UNSURE,
        f"{GITHUB}aws/aws-cdk/issues/29065",
    ),
    _observed(
        "policy.same-metric",
        "PutScalingPolicy",
        "two target-tracking policies with one metric",
        "Only one TargetTrackingScaling policy for a given metric specification is allowed.",
        f"{GITHUB}gravitational/teleport/blob/master/lib/backend/dynamo/dynamodbbk.go",
    ),
    _guessed("policy.stable-arn", "PutScalingPolicy", "the policy is there", "it keeps its ARN"),
    _documented(
        "policy.tracking-alarms",
        "PutScalingPolicy",
        "target tracking",
        "two alarms, which go with the policy",
        f"{AAS}PutScalingPolicy.html",
    ),
    _documented(
        "policy.step-alarms",
        "DescribeScalingPolicies",
        "an alarm's action is the policy",
        "it is among the policy's Alarms",
        f"{AAS}ScalingPolicy.html",
    ),
    _documented(
        "policy.step-delete",
        "DeleteScalingPolicy",
        "an alarm of the user drives it",
        "the alarm stays without the action",
        f"{AAS}DeleteScalingPolicy.html",
    ),
    _documented(
        "policy.names-filter",
        "DescribeScalingPolicies",
        "PolicyNames",
        "only these",
        f"{AAS}DescribeScalingPolicies.html",
    ),
    # scheduled actions
    _documented(
        "action.target-missing",
        "PutScheduledAction",
        "not registered",
        "ObjectNotFoundException",
        f"{AAS}PutScheduledAction.html",
    ),
    _documented(
        "action.schedule", "PutScheduledAction", "no or a wrong schedule", UNSURE, f"{AAS}PutScheduledAction.html"
    ),
    _guessed("action.capacity", "PutScheduledAction", "neither MinCapacity nor MaxCapacity", UNSURE),
    _documented(
        "action.times",
        "PutScheduledAction",
        "an existing action, no StartTime or EndTime",
        "the old ones are deleted",
        f"{AAS}PutScheduledAction.html",
    ),
    _documented(
        "action.missing",
        "DeleteScheduledAction",
        "no such action",
        "ObjectNotFoundException",
        f"{AAS}DeleteScheduledAction.html",
    ),
    # alarms
    _documented("alarm.first-state", "PutMetricAlarm", "a new alarm", "INSUFFICIENT_DATA", f"{CW}PutMetricAlarm.html"),
    _documented(
        "alarm.update",
        "PutMetricAlarm",
        "the alarm is there",
        "overwritten, its state stays",
        f"{CW}PutMetricAlarm.html",
    ),
    _documented("alarm.tags", "PutMetricAlarm", "Tags for an existing alarm", "ignored", f"{CW}PutMetricAlarm.html"),
    _documented(
        "alarm.metric",
        "PutMetricAlarm",
        "both or neither of MetricName and Metrics",
        UNSURE,
        f"{CW}PutMetricAlarm.html",
    ),
    _documented(
        "alarm.statistic",
        "PutMetricAlarm",
        "both or neither of Statistic and ExtendedStatistic",
        UNSURE,
        f"{CW}PutMetricAlarm.html",
    ),
    _documented(
        "alarm.period",
        "PutMetricAlarm",
        "a Period other than 10, 20, 30 or n times 60",
        UNSURE,
        f"{CW}PutMetricAlarm.html",
    ),
    _documented(
        "alarm.span",
        "PutMetricAlarm",
        "more than a day of periods under an hour, or seven days of others",
        UNSURE,
        f"{CW}PutMetricAlarm.html",
    ),
    _documented("alarm.periods", "PutMetricAlarm", "no EvaluationPeriods", UNSURE, f"{CW}PutMetricAlarm.html"),
    _documented("alarm.threshold", "PutMetricAlarm", "no threshold", UNSURE, f"{CW}PutMetricAlarm.html"),
    _guessed("alarm.datapoints", "PutMetricAlarm", "more datapoints than periods", UNSURE),
    _documented(
        "alarm.types",
        "DescribeAlarms",
        "other AlarmTypes than MetricAlarm",
        "no metric alarms",
        f"{CW}DescribeAlarms.html",
    ),
    _documented("alarm.missing", "SetAlarmState", "no such alarm", "404 ResourceNotFound", f"{CW}SetAlarmState.html"),
    _documented(
        "alarm.actions",
        "SetAlarmState",
        "the state differs",
        "the actions of the new state are taken",
        f"{CW}SetAlarmState.html",
    ),
    _documented(
        "alarm.delete-missing",
        "DeleteAlarms",
        "some names are wrong",
        "the others are deleted",
        f"{CW}DeleteAlarms.html",
    ),
    _documented(
        "alarm.tags-missing", "TagResource", "no such alarm", "ResourceNotFoundException", f"{CW}TagResource.html"
    ),
    # dashboards
    _documented(
        "dashboard.body",
        "PutDashboard",
        "no JSON object with widgets",
        "InvalidParameterInput",
        f"{CW}PutDashboard.html",
    ),
    _documented(
        "dashboard.missing",
        "GetDashboard, DeleteDashboards",
        "no such one",
        "404 ResourceNotFound",
        f"{CW}GetDashboard.html",
    ),
    _documented(
        "dashboard.delete",
        "DeleteDashboards",
        "some names are wrong",
        "the others are deleted",
        f"{CW}DeleteDashboards.html",
    ),
    # metrics
    _documented(
        "metrics.namespace",
        "GetMetricData",
        "always",
        "namespace, name and all dimensions must fit",
        f"{CW}Metric.html",
    ),
    _documented(
        "metrics.aligned", "GetMetricData", "always", "periods start at whole multiples", f"{CW}GetMetricData.html"
    ),
    _guessed("metrics.late", "GetMetricData", "values that have just been measured", "not there until the lag is over"),
    _documented(
        "metrics.pages",
        "GetMetricData",
        "more datapoints than MaxDatapoints",
        "PartialData and a NextToken; the rest under the same Id on the next page",
        f"{CW}MetricDataResult.html",
    ),
    _guessed("metrics.percentile", "GetMetricData", "pNN", "nearest rank; AWS does not say how"),
    _documented(
        "metrics.percentile-rank",
        "GetMetricData",
        "PR(low:high)",
        "percent of values above low and up to high",
        "https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html",
    ),
    _guessed("metrics.statistic", "GetMetricData", "a statistic that is not known", UNSURE),
    _documented(
        "metrics.statistics",
        "GetMetricStatistics",
        "neither Statistics nor ExtendedStatistics",
        "InvalidParameterCombination",
        f"{CW}GetMetricStatistics.html",
    ),
    _documented(
        "metrics.limit",
        "GetMetricStatistics",
        "more than 1,440 datapoints",
        "InvalidParameterCombination",
        f"{CW}GetMetricStatistics.html",
    ),
    _guessed("metrics.times", "GetMetricData", "StartTime not before EndTime", UNSURE),
    _guessed("metrics.math", "GetMetricData", "an Expression that no test has put values for", "501: not imitated"),
    _documented(
        "metrics.series",
        "GetMetricData",
        "an Expression that gives several series",
        "a result for each, all with the query's Id",
        "https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html",
    ),
    _guessed("metrics.statistic-values", "PutMetricData", "StatisticValues", "501: not imitated"),
    _documented(
        "metrics.listed-once", "ListMetrics", "a metric has many datapoints", "one entry", f"{CW}ListMetrics.html"
    ),
    # logs
    _documented(
        "logs.endpoint-group",
        "FilterLogEvents, GetLogEvents",
        "an endpoint was created or updated",
        "lines in /aws/sagemaker/Endpoints/NAME, stream VARIANT/INSTANCE",
        f"{DG}logging-cloudwatch.html",
    ),
    _documented(
        "logs.missing",
        "any on a group or a stream",
        "there is none",
        "ResourceNotFoundException",
        f"{LOGS}GetLogEvents.html",
    ),
    _documented(
        "logs.exists",
        "CreateLogGroup, CreateLogStream",
        "there is one",
        "ResourceAlreadyExistsException",
        f"{LOGS}CreateLogGroup.html",
    ),
    _documented(
        "logs.both",
        "FilterLogEvents",
        "logStreamNames and logStreamNamePrefix",
        "InvalidParameterException",
        f"{LOGS}FilterLogEvents.html",
    ),
    _documented(
        "logs.tokens", "GetLogEvents", "the end is reached", "the token that was sent", f"{LOGS}GetLogEvents.html"
    ),
    _documented(
        "logs.terms",
        "FilterLogEvents",
        "a pattern of terms",
        "all plain ones, any with ?, none with -; JSON patterns are not imitated",
        "https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html",
    ),
    # errors of every service
    _documented(
        "fault.throttle",
        "any",
        "a throttle was scripted",
        "ThrottlingException: Rate exceeded; S3 503 SlowDown",
        f"{SM.removesuffix('API_')}CommonErrors.html",
    ),
    _documented(
        "fault.expired",
        "any",
        "expired credentials were scripted",
        "ExpiredTokenException, ExpiredToken in XML: The security token included in the request is expired",
        f"{SM.removesuffix('API_')}CommonErrors.html",
    ),
    _documented(
        "fault.access-denied",
        "any",
        "a refusal was scripted",
        "AccessDeniedException: User: ARN is not authorized to perform: service:Operation",
        f"{SM.removesuffix('API_')}CommonErrors.html",
    ),
)


def main() -> int:
    """Print how many rules there are and how they are known."""
    marks = Counter(rule.mark for rule in RULES)
    shares = ", ".join(f"{marks[mark]} {mark}" for mark in ("documented", "observed", "guessed"))
    sys.stdout.write(f"{len(RULES)} rules: {shares}; {100 * marks['guessed'] / len(RULES):.0f} % guessed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
