package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AIAnalysis asks for the root cause of one signal and for a workflow that would fix it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=aia
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Approval",type=boolean,JSONPath=`.status.approvalRequired`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AIAnalysis struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec AIAnalysisSpec `json:"spec"`
	// +optional
	Status AIAnalysisStatus `json:"status,omitempty"`
}

// AIAnalysisList is a list of AIAnalysis.
//
// +kubebuilder:object:root=true
type AIAnalysisList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AIAnalysis `json:"items"`
}

// AIAnalysisSpec is immutable: another question is another object. That lets the controller take the status alone as the
// state of an analysis.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec is immutable; create another AIAnalysis"
type AIAnalysisSpec struct {
	// The remediation request this analysis serves.
	RemediationRequestRef corev1.ObjectReference `json:"remediationRequestRef"`
	// Correlates everything done for one remediation.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	RemediationID   string          `json:"remediationId"`
	AnalysisRequest AnalysisRequest `json:"analysisRequest"`
}

// AnalysisRequest says what to analyse, and how.
type AnalysisRequest struct {
	SignalContext SignalContext `json:"signalContext"`
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=set
	AnalysisTypes []AnalysisType `json:"analysisTypes"`
}

// AnalysisType is one kind of analysis.
//
// +kubebuilder:validation:Enum=incident-analysis;root-cause;workflow-selection;recovery-analysis
type AnalysisType string

// The kinds of analysis. RecoveryAnalysis follows a workflow that failed and goes to HAPI's recovery endpoint.
const (
	IncidentAnalysis  AnalysisType = "incident-analysis"
	RootCause         AnalysisType = "root-cause"
	WorkflowSelection AnalysisType = "workflow-selection"
	RecoveryAnalysis  AnalysisType = "recovery-analysis"
)

// SignalContext describes the signal.
type SignalContext struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Fingerprint string `json:"fingerprint"`
	// +kubebuilder:validation:Enum=critical;warning;info
	Severity string `json:"severity"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	SignalType string `json:"signalType"`
	// +kubebuilder:validation:Enum=production;staging;development;test
	Environment string `json:"environment"`
	// +kubebuilder:validation:Pattern=`^P[0-4]$`
	BusinessPriority string         `json:"businessPriority"`
	TargetResource   TargetResource `json:"targetResource"`
	// +optional
	EnrichmentResults EnrichmentResults `json:"enrichmentResults,omitempty"`
}

// TargetResource names the object the signal is about. Namespace is empty for objects of the cluster, such as a Node.
type TargetResource struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// EnrichmentResults is what earlier steps found out about the target.
type EnrichmentResults struct {
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	OwnerChain []TargetResource `json:"ownerChain,omitempty"`
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	CustomLabels map[string]string `json:"customLabels,omitempty"`
}
