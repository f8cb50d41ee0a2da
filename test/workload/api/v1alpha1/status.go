package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Phase is where an analysis stands.
//
// +kubebuilder:validation:Enum=Pending;Investigating;Analyzing;Completed;Failed
type Phase string

// The phases in their order; Completed and Failed are final. An object without a phase is Pending.
const (
	PhasePending       Phase = "Pending"
	PhaseInvestigating Phase = "Investigating"
	PhaseAnalyzing     Phase = "Analyzing"
	PhaseCompleted     Phase = "Completed"
	PhaseFailed        Phase = "Failed"
)

// Final tells whether nothing more will happen to an analysis in this phase.
func (p Phase) Final() bool { return p == PhaseCompleted || p == PhaseFailed }

// The types of conditions.
const (
	// ConditionInvestigated is True once HAPI has answered; while it cannot be reached it is False with the reason.
	ConditionInvestigated = "Investigated"
	// ConditionAnalyzed is True once policy was applied to HAPI's answer.
	ConditionAnalyzed = "Analyzed"
	// ConditionReady is True once the analysis is Completed, and False with the reason once it is Failed.
	ConditionReady = "Ready"
)

// The reasons of status and conditions.
const (
	ReasonSucceeded            = "Succeeded"
	ReasonInProgress           = "InProgress"
	ReasonApprovalRequired     = "ApprovalRequired"
	ReasonHAPIUnreachable      = "HAPIUnreachable"
	ReasonHAPIError            = "HAPIError"
	ReasonHAPIRejected         = "HAPIRejected"
	ReasonNoMatchingWorkflows  = "NoMatchingWorkflows"
	ReasonLowConfidence        = "LowConfidence"
	ReasonLLMParsingError      = "LLMParsingError"
	ReasonHumanReviewRequested = "HumanReviewRequested"
)

// AIAnalysisStatus is the whole state of an analysis: a controller that starts anew goes on from it.
type AIAnalysisStatus struct {
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	RootCause *RootCauseAnalysis `json:"rootCause,omitempty"`
	// +optional
	SelectedWorkflow *SelectedWorkflow `json:"selectedWorkflow,omitempty"`
	// True if a person has to agree before the workflow is run.
	// +optional
	ApprovalRequired bool `json:"approvalRequired"`
	// +listType=atomic
	// +optional
	Warnings []string `json:"warnings,omitempty"`
	// Requests to HAPI begun for this analysis, counted before each is sent.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Attempts int32 `json:"attempts,omitempty"`
	// Requests to HAPI that it answered with an error of its own (5xx).
	// +kubebuilder:validation:Minimum=0
	// +optional
	ServerErrors int32 `json:"serverErrors,omitempty"`
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// +optional
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RootCauseAnalysis is what HAPI holds to be the cause.
type RootCauseAnalysis struct {
	Summary  string `json:"summary"`
	Severity string `json:"severity"`
	// +listType=atomic
	// +optional
	ContributingFactors []string `json:"contributingFactors,omitempty"`
}

// SelectedWorkflow is the workflow HAPI proposes.
type SelectedWorkflow struct {
	WorkflowID     string `json:"workflowId"`
	Title          string `json:"title"`
	Version        string `json:"version"`
	ContainerImage string `json:"containerImage"`
	// How sure HAPI is, as a decimal between 0 and 1 with two places. A string, since the API's conventions avoid floats.
	// +kubebuilder:validation:Pattern=`^[01]\.[0-9]{2}$`
	Confidence string `json:"confidence"`
	Rationale  string `json:"rationale"`
	// +optional
	Parameters map[string]string `json:"parameters,omitempty"`
}
