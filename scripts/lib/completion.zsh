_smmu_wizard_offer() { local -a found; found=(${(f)"$(_smmu_wizard_names $1 ${(Q)${(z)BUFFER}})"}); compadd -a found; }
_smmu_wizard_functions() { _smmu_wizard_offer functions; }
_smmu_wizard_smmus() { _smmu_wizard_offer smmus; }
_smmu_wizard_subjects() { _smmu_wizard_offer functions; _smmu_wizard_offer smmus; }
_smmu_wizard_vms() { _smmu_wizard_offer vms; }
_smmu_wizard_filters() { compadd -S '' -- accel:yes accel:no accel:unknown cap: class: driver: group: id: name: node: smmu:; }
_smmu_wizard_given() { compset -P '*[=,]' && _smmu_wizard_offer functions; }
