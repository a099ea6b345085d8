# Written by `make docs` from scstadmin's parser; do not edit.
_scstadmin_names() {
    local socket=() at
    for ((at = 1; at < ${#words[@]} - 1; at++)); do
        [[ ${words[at]} == -socket ]] && socket=(-socket "${words[at + 1]}")
    done
    "${words[0]}" "${socket[@]}" "-$1" 2>/dev/null |
        awk -v column="$2" 'NR > 2 && $column != "-" && !seen[$column]++ {
            print $column
        }'
}

_scstadmin() {
    # Bash breaks words at colons, which names of targets have: the line has them whole.
    local line=${COMP_LINE:0:COMP_POINT} words current previous
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[-1]} previous=${words[-2]}
    _scstadmin_reply
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")
    fi
}

_scstadmin_reply() {
    COMPREPLY=()
    case $previous in
        -config|-check_config|-write_config|-convert_config|-socket)
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return ;;
        -close_dev|-resync_dev|-rem_dgrp_dev|-set_dev_attr|-list_device|-list_dev_attr|-device)
            mapfile -t COMPREPLY < <(compgen -W "$(_scstadmin_names list_device 1)" -- "$current")
            [[ ${#COMPREPLY[@]} -gt 0 ]] && return ;;
        -rem_target|-enable_target|-disable_target|-rem_tgrp_tgt|-set_ttgt_attr|-set_tgt_attr|-add_tgt_attr|-rem_tgt_attr|-list_target|-list_tgt_attr|-list_ttgt_attr|-target)
            mapfile -t COMPREPLY < <(compgen -W "$(_scstadmin_names list_target 2)" -- "$current")
            [[ ${#COMPREPLY[@]} -gt 0 ]] && return ;;
        -rem_group|-set_grp_attr|-list_group|-list_grp_attr|-group)
            mapfile -t COMPREPLY < <(compgen -W "$(_scstadmin_names list_group 3)" -- "$current")
            [[ ${#COMPREPLY[@]} -gt 0 ]] && return ;;
        -rem_init|-move_init|-close_session|-set_init_attr|-list_sessions|-list_init_attr|-list_sess_attr)
            mapfile -t COMPREPLY < <(compgen -W "$(_scstadmin_names list_sessions 3)" -- "$current")
            [[ ${#COMPREPLY[@]} -gt 0 ]] && return ;;
        -rem_dgrp|-set_dgrp_attr|-list_dgrp|-list_dgrp_attr)
            mapfile -t COMPREPLY < <(compgen -W "$(_scstadmin_names list_dgrp 1)" -- "$current")
            [[ ${#COMPREPLY[@]} -gt 0 ]] && return ;;
        -set_drv_attr|-add_drv_attr|-rem_drv_attr|-list_driver|-list_drv_attr|-driver)
            mapfile -t COMPREPLY < <(compgen -W "$(_scstadmin_names list_driver 1)" -- "$current")
            [[ ${#COMPREPLY[@]} -gt 0 ]] && return ;;
        -set_hnd_attr|-list_handler|-list_hnd_attr|-handler)
            mapfile -t COMPREPLY < <(compgen -W "$(_scstadmin_names list_handler 1)" -- "$current")
            [[ ${#COMPREPLY[@]} -gt 0 ]] && return ;;
        -dev_group)
            mapfile -t COMPREPLY < <(compgen -W "$(_scstadmin_names list_dgrp 1)" -- "$current")
            [[ ${#COMPREPLY[@]} -gt 0 ]] && return ;;
        -to)
            mapfile -t COMPREPLY < <(compgen -W "$(_scstadmin_names list_group 3)" -- "$current")
            [[ ${#COMPREPLY[@]} -gt 0 ]] && return ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "-h --help -version -config -check_config -write_config -convert_config -events -clear_config -open_dev -close_dev -resync_dev -add_target -rem_target -enable_target -disable_target -add_group -rem_group -add_init -rem_init -move_init -clear_inits -add_lun -replace_lun -rem_lun -clear_luns -close_session -add_dgrp -rem_dgrp -add_dgrp_dev -rem_dgrp_dev -add_tgrp -rem_tgrp -add_tgrp_tgt -rem_tgrp_tgt -set_dgrp_attr -set_tgrp_attr -set_ttgt_attr -set_scst_attr -set_drv_attr -set_tgt_attr -set_dev_attr -set_lun_attr -set_grp_attr -set_init_attr -set_hnd_attr -add_drv_attr -rem_drv_attr -add_tgt_attr -rem_tgt_attr -list_handler -list_device -list_driver -list_target -list_group -list_dgrp -list_tgrp -list_sessions -list_scst_attr -list_hnd_attr -list_dev_attr -list_drv_attr -list_tgt_attr -list_grp_attr -list_lun_attr -list_init_attr -list_dgrp_attr -list_tgrp_attr -list_ttgt_attr -list_sess_attr -driver -target -group -handler -device -dev_group -to -tgt_group -attributes -force -noprompt -cont_on_err -dry -json -count -socket" -- "$current")
}

complete -F _scstadmin scstadmin
