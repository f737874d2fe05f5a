// Small parts that the page is put together of.

import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import type { Badge as Kind } from './slides';

// On a grid of 16, drawn with strokes of 1.5.
const ICONS = {
  hand: 'M4.5 8V4a1 1 0 0 1 2 0v3m0-4a1 1 0 0 1 2 0v4m0-3a1 1 0 0 1 2 0v3m0-1.500a1 1 0 0 1 2 0V10c0 3-1.5 4.5-4 4.500S5.5 13 4.5 11L2.8 8.800a1 1 0 0 1 1.7-1',
  rectangle: 'M2.5 4h11v8h-11z',
  polygon: 'M3 6l5-3.500L13.5 7 11 13H5z',
  ruler: 'M2 11L11 2l3 3-9 9zM5 8l1.5 1.500M7.5 5.500L9 7M10 3l1.5 1.5',
  side: 'M2 3h12v10H2zM8 3v10',
  curtain: 'M2 3h12v10H2zM8 1v14M5.5 8L4 6.500M5.5 8L4 9.500M10.5 8L12 6.500M10.5 8L12 9.5',
  blink: 'M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8M8 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4',
  fade: 'M6 3.500a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9M10 3.500a4.5 4.5 0 1 1 0 9',
  link: 'M6.5 9.500l3-3M7 4.500l1.5-1.500a2.8 2.8 0 0 1 4 4L11 8.500M9 11.500L7.5 13a2.8 2.8 0 0 1-4-4L5 7.5',
  camera: 'M2 5h3l1-2h4l1 2h3v8H2zM8 6.500a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5',
  share: 'M8 10V2M5 4.500L8 1.500l3 3M3 8v6h10V8',
  moon: 'M13 9.500A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5',
  sun: 'M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6M8 1v1.500M8 13.500V15M1 8h1.500M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1',
  jobs: 'M8 2a6 6 0 1 0 6 6M8 5v3l2 1.5',
  slides: 'M2 3h12M2 6.500h12M2 10h12M2 13.500h12',
  tools: 'M2 4h7M12 4h2M10.5 2.500v3M2 8h2M7 8h7M5.5 6.500v3M2 12h6M11 12h3M9.5 10.500v3',
  eye: 'M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8M8 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4',
  hidden: 'M2 2l12 12M4 5.500C2.4 6.6 1.5 8 1.5 8S4 12.5 8 12.500c1 0 2-.3 2.8-.7M6.5 3.700A6 6 0 0 1 8 3.500C12 3.5 14.5 8 14.5 8s-.7 1.2-1.8 2.3',
  beside: 'M2 3h5v10H2zM9.5 3h4.500v10H9.5',
  save: 'M8 2v8M5 7l3 3 3-3M3 13.500h10',
  remove: 'M3 4.500h10M6 4.500V3h4v1.500M4.5 4.500l.7 9h5.600l.7-9',
  undo: 'M3 6h7a3.5 3.5 0 0 1 0 7H6M3 6l3-3M3 6l3 3',
  plus: 'M8 3v10M3 8h10',
  minus: 'M3 8h10',
  close: 'M4 4l8 8M12 4l-8 8',
  fit: 'M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4',
  left: 'M4 5a5 5 0 1 1-1 5M4 1.500V5h3.5',
  right: 'M12 5a5 5 0 1 0 1 5M12 1.500V5H8.5',
  info: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M8 7.500V11M8 5v.5',
  help: 'M6 6a2 2 0 1 1 2.7 1.900c-.5.2-.7.6-.7 1.100v.500M8 12v.3',
};

export type IconName = keyof typeof ICONS;

export const Icon = ({ name }: { name: IconName }) => (
  <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
    <path d={ICONS[name]} />
  </svg>
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
