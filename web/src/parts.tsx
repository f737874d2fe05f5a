// Small parts that the page is put together of.

import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import type { Badge as Kind } from './slides';

/** Ids of the drawings in icons.svg. */
export type IconName =
  | 'hand' | 'rectangle' | 'polygon' | 'ruler' | 'side' | 'curtain' | 'blink' | 'fade' | 'link' | 'camera' | 'share'
  | 'moon' | 'sun' | 'jobs' | 'slides' | 'tools' | 'eye' | 'hidden' | 'beside' | 'save' | 'remove' | 'undo' | 'plus'
  | 'minus' | 'close' | 'fit' | 'left' | 'right' | 'help';

export const Icon = ({ name }: { name: IconName }) => (
  <svg class="icon" aria-hidden="true"><use href={`icons.svg#${name}`} /></svg>
);

interface ButtonProps {
  id?: string;
  icon?: IconName;
  label: string;
  isIconOnly?: boolean; // its name is read out and shown as a tip
  isMain?: boolean;
  isPressed?: boolean;
  isDisabled?: boolean;
  class?: string;
  onClick: (event: MouseEvent) => void;
}

export const Button = ({ id, icon, label, isIconOnly, isMain, isPressed, isDisabled, class: more = '', onClick }: ButtonProps) => (
  <button
    id={id}
    type="button"
    class={`${isMain ? 'main' : ''} ${isIconOnly ? 'bare' : ''} ${more}`.trim() || undefined}
    aria-label={isIconOnly ? label : undefined}
    title={icon ? label : undefined}
    aria-pressed={isPressed}
    disabled={isDisabled}
    onClick={onClick}
  >
    {icon && <Icon name={icon} />}
    {!isIconOnly && <span>{label}</span>}
  </button>
);

/** A button that does it for good when it is pressed again within a few seconds. */
export function Removal({ what, isIconOnly, onRemove }: { what: string; isIconOnly?: boolean; onRemove: () => void }) {
  const [isSure, setSure] = useState(false);
  const press = (): void => {
    if (isSure) return onRemove();
    setSure(true);
    setTimeout(() => setSure(false), 5000);
  };
  const label = isSure ? `Remove ${what} for good?` : isIconOnly ? `Remove ${what}` : 'Remove';
  return <Button icon="remove" label={label} isIconOnly={isIconOnly && !isSure} class={isSure ? 'danger' : ''} onClick={press} />;
}

const TITLES: Record<Kind, string> = {
  'H&E': 'Haematoxylin and eosin',
  IHC: 'Immunohistochemistry: haematoxylin and DAB',
  VIRTUAL: 'A virtual stain: not for diagnosis',
};

export const Badge = ({ kind, doubt }: { kind: Kind | ''; doubt?: string | null }) =>
  kind && (
    <span class={`badge ${kind === 'H&E' ? 'he' : kind.toLowerCase()}`} title={doubt ? `Not sure: ${doubt}` : TITLES[kind]}>
      {kind}
      {doubt && kind !== 'VIRTUAL' && ' ?'}
    </span>
  );

interface SliderProps {
  id?: string;
  label: string;
  value: number;
  low: number;
  high: number;
  step: number;
  shown: string;
  isDisabled?: boolean;
  onInput: (value: number) => void;
}

/** A slider that says its value. */
export const Slider = ({ id, label, value, low, high, step, shown, isDisabled, onInput }: SliderProps) => (
  <label class="field slider">
    <span>{label}</span>
    <output>{shown}</output>
    <input id={id} type="range" min={low} max={high} step={step} value={value} disabled={isDisabled} onInput={(event) => onInput(Number(event.currentTarget.value))} />
  </label>
);

interface SelectProps {
  id?: string;
  label: string;
  isLabelHidden?: boolean; // it is read out alone
  value: string | number;
  of: readonly (readonly [string | number, string])[]; // values, and what they are called
  onChoose: (value: string) => void;
}

/** A drop-down list with its label. */
export const Select = ({ id, label, isLabelHidden, value, of, onChoose }: SelectProps) => (
  <label class={isLabelHidden ? 'inline' : 'field'}>
    <span class={isLabelHidden ? 'unseen' : ''}>{label}</span>
    <select id={id} value={value} onChange={(event) => onChoose(event.currentTarget.value)}>
      {of.map(([key, words]) => <option key={key} value={key}>{words}</option>)}
    </select>
  </label>
);

interface NumberProps {
  id: string;
  label: string;
  min: number;
  max: number;
  placeholder: string;
  value: string;
  onInput: (value: string) => void;
}

export const NumberField = ({ label, onInput, ...given }: NumberProps) => (
  <label class="field">{label}
    <input type="number" step="any" {...given} onInput={(event) => onInput(event.currentTarget.value)} />
  </label>
);

export const Check = ({ id, label, isOn, onToggle }: { id?: string; label: string; isOn: boolean; onToggle: (on: boolean) => void }) => (
  <label class="check">
    <input id={id} type="checkbox" checked={isOn} onChange={(event) => onToggle(event.currentTarget.checked)} /> <span>{label}</span>
  </label>
);

/** A few choices, of which one holds. */
export function Choice<T extends string>({ name, legend, of, value, onChoose }: { name: string; legend: string; of: readonly (readonly [T, ComponentChildren])[]; value: T; onChoose: (value: T) => void }) {
  return (
    <fieldset class="choice">
      <legend class="unseen">{legend}</legend>
      {of.map(([key, words]) => (
        <label key={key}>
          <input type="radio" name={name} value={key} checked={key === value} onChange={() => onChoose(key)} />
          <span>{words}</span>
        </label>
      ))}
    </fieldset>
  );
}

/** A button that takes a file. */
export const FileButton = ({ id, label, accept, onFile }: { id: string; label: string; accept: string; onFile: (file: File) => void }) => (
  <label class="button file">
    <span>{label}</span>
    <input
      id={id}
      type="file"
      accept={accept}
      onChange={(event) => {
        const file = event.currentTarget.files?.[0];
        if (file) onFile(file);
        event.currentTarget.value = '';
      }}
    />
  </label>
);

/** Copies text; its words say for a moment how that went. */
export function CopyButton({ id, icon, label, text }: { id?: string; icon?: IconName; label: string; text: () => string }) {
  const [said, setSaid] = useState('');
  const copy = async (): Promise<void> => {
    setSaid(await navigator.clipboard.writeText(text()).then(() => 'Copied', () => 'Not allowed'));
    setTimeout(() => setSaid(''), 1500);
  };
  return <Button id={id} icon={icon} label={said || label} onClick={() => void copy()} />;
}
